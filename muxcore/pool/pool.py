"""The pool: who is in it, what it is told, and how its upstreams fare.

Nothing here does I/O, and the clock is an argument. Failures are learnt from clients' own
connections, and from checks where there are any (``checks.py``).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Container
from functools import partial
from typing import Any, Self

from muxcore.address import Address
from muxcore.errors import AddressError
from muxcore.limits import checked, seconds
from muxcore.pool import changing, policies, sharing
from muxcore.pool.checks import Check, obey
from muxcore.pool.pace import checked_rate
from muxcore.pool.refusals import Refusals
from muxcore.pool.standing import Standing
from muxcore.pool.trials import Trials
from muxcore.pool.turn import shared_number
from muxcore.pool.upstream import (
    Upstream,
    UpstreamStats,
    checked_cap,
    checked_count,
    checked_header,
)

logger = logging.getLogger("muxcore.relay")

POLICIES = tuple(policies.POLICIES)

_TRIES = 3  # upstreams: with many that do not answer a client would wait for all of them
_MOST_TRIES = 1_000  # upstreams: each that is silent costs its client the ``connect_timeout``
_LONGEST_QUEUE = 1_000_000  # clients: each holds a connection open


def _spread() -> float:
    return random.random()  # by its name in a pickle: workers do not draw the same numbers


class Pool(Standing):
    """Upstreams that share the clients, for ``transport.relay(pool)`` and ``muxcore.Relay(pool)``.

    ::

        backends = muxcore.Pool(
            muxcore.Upstream("db1:5432", weight=2), "db2:5432", connect_timeout=2
        )

    An upstream that cannot be connected to is left alone for half a second, then twice as long
    each time, up to 30 s, and gets one client as a probe after each pause; meanwhile the others
    share its clients. A pool belongs to one server: its thread alone changes it.

    Args:
        upstreams: addresses as in ``muxcore.address.parse`` (names, IPv4, IPv6, unix paths), or
            ``Upstream`` objects, which have a weight, are backups, and so on.
        policy: "round-robin": in turns, as their weights are; "least-connections": the fewest
            clients of this pool for its weight; "two-random": the better one of two; "source": a
            client's key, which is its address unless it is given another, always has the same one;
            "first": the first one in order that is up and has a place.
        connect_timeout: seconds that connecting to one upstream may take; None means
            ``Limits.connect_timeout``.
        tries: upstreams that one client is given, one after another, until one takes it.
        max_active: clients at once for one upstream, those on their way to it included. One that
            has as many gets no more. None: no cap.
        rate: new clients a second for one upstream, of which at most a second's worth at once: see
            ``pace.py``. One that has had as many gets none for now. None: no limit.
        queue: clients that wait, at most, where all that are up have ``max_active``, or their
            ``rate``; beyond it a client is refused. 0: none.
        queue_timeout: seconds for which one waits before it is refused.
        slow_start: seconds in which one that is back gets more and more, up to its weight. 0: all
            at once.
        retry_for: seconds in which a client that none takes is tried again, twice a second, before
            it is refused. 0: once.
        check: how each upstream is checked, from the server's start with ``muxcore.Relay``, else
            from the pool's first client; None: not at all.
        eject_after: clients in a row that an upstream takes and does not answer (see ``trials.py``)
            until it rests like one that cannot be connected to; it is back when a client is
            answered. None: it never rests for that.
        first_byte_timeout: seconds in which no byte moves after the client's and before any of the
            upstream's: the pair is cut then, a quarter late at most. None: no such limit.
        max_ejected: the share of the upstreams, above 0 and at most 1, that may be ejected at once;
            one may always, and none that is the last one up.
        cut_failing: cut the pairs of an upstream once its check or its agent says that it does not
            serve, with ``PairCut``: their clients connect anew, and get another one.
        cut_backups: cut the pairs of backups once one that is none is up again.
        send_proxy: the PROXY header of an upstream that has none of its own: see ``Upstream``.
        name: what it is called in logs, metrics and by ``muxcore admin``.
        clock: returns seconds that never go backward.
        spread: returns a number from 0 to 1, for the jitter of the pauses.

    Attributes:
        upstreams: the ``Upstream`` objects, in order.
        requires: what it requires of an engine: what counts clients in one place takes
            ``shared_state``, unless it is a worker's share; a queue and checks ``timers`` as well.
        apart: listeners of the same server that its upstreams may be, since nobody comes here by
            them; every other one is the server itself.
        refusals: the clients that could have none.
        share: (number, count) of the worker whose share it is; (1, 1): it is all of it.

    Raises:
        AddressError: an upstream's address is malformed, has port 0, or is given twice.
        TypeError: there is no upstream.
        ValueError: the policy is unknown, a number cannot work, or an ``Upstream`` is of another
            pool.
    """

    def __init__(
        self,
        *upstreams: str | int | Address | Upstream,
        policy: str = "round-robin",
        connect_timeout: float | None = None,
        tries: int = _TRIES,
        max_active: int | None = None,
        rate: float | None = None,
        queue: int = 0,
        queue_timeout: float = 5.0,
        slow_start: float = 0.0,
        retry_for: float = 0.0,
        check: Check | None = None,
        eject_after: int | None = None,
        first_byte_timeout: float | None = None,
        max_ejected: float = 0.5,
        cut_failing: bool = False,
        cut_backups: bool = False,
        send_proxy: str = "",
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = _spread,
    ) -> None:
        super().__init__()
        if not upstreams:
            raise TypeError("at least one upstream is needed, such as 'db1:5432'")
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if connect_timeout is not None:
            checked("Pool", "connect_timeout", connect_timeout)
        self.policy = policy
        self.connect_timeout = connect_timeout
        self.tries = checked_count("Pool", "tries", tries, _MOST_TRIES)
        self.max_active = checked_cap("Pool", max_active)
        self.pace = checked_rate("Pool", "rate", rate)
        self.queue = checked_count("Pool", "queue", queue, _LONGEST_QUEUE, 0)
        self.queue_timeout = seconds("Pool(queue_timeout=…): queue_timeout", queue_timeout)
        self.slow_start = seconds("Pool(slow_start=…): slow_start", slow_start)
        self.retry_for = seconds("Pool(retry_for=…): retry_for", retry_for)
        self.send_proxy = checked_header("Pool", send_proxy)
        self.name = name
        self._made_with: dict[str, Any] = {
            "policy": policy,
            "connect_timeout": connect_timeout,
            "tries": tries,
            "max_active": max_active,
            "rate": rate,
            "queue": queue,
            "queue_timeout": queue_timeout,
            "slow_start": slow_start,
            "retry_for": retry_for,
            "check": check,
            "eject_after": eject_after,
            "first_byte_timeout": first_byte_timeout,
            "max_ejected": max_ejected,
            "cut_failing": cut_failing,
            "cut_backups": cut_backups,
            "send_proxy": send_proxy,
            "name": name,
            "clock": clock,
            "spread": spread,
        }
        self.check = check
        self.clock = clock
        self.spread = spread
        self._choose = policies.POLICIES[policy]
        self._most = math.inf if max_active is None else max_active
        self._turn = shared_number()
        self.trials = Trials.of(
            *(self, eject_after, first_byte_timeout, max_ejected),
            cut_failing=cut_failing,
            cut_backups=cut_backups,
        )
        self.upstreams = ()
        self.apart: tuple[Address, ...] = ()
        self.on_added: Callable[[Upstream], object] | None = None  # once the checks run
        self.refusals = Refusals(clock)
        self.share = sharing.WHOLE
        names: dict[str, Upstream] = {}
        for upstream in upstreams:
            added = self._admit(upstream, names)
            names[added.name] = added
        self.upstreams = tuple(names.values())
        self.changed()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew in a worker: what is known of the upstreams is one process's."""
        return partial(type(self), **self._made_with), self.upstreams

    def __repr__(self) -> str:
        return f"Pool({', '.join(repr(u.name) for u in self.upstreams)})"

    # -- who is in it, and what it is told

    def add(self, upstream: str | int | Address | Upstream) -> Upstream:
        """Add an upstream; with a slow start it gets more and more clients from now on.

        Raises:
            AddressError: its address is malformed, has port 0, or is here already.
            ValueError: it is of another pool.
        """
        added = self._admit(upstream, [each.name for each in self.upstreams])
        self.upstreams += (added,)
        added.came_up = self.clock()
        self.changed()
        if self.on_added is not None:
            self.on_added(added)
        self.look_again()
        return added

    def _admit(self, upstream: str | int | Address | Upstream, there: Container[str]) -> Upstream:
        added = upstream if isinstance(upstream, Upstream) else Upstream(upstream)
        if added.name in there:
            raise AddressError(
                f"upstream {added.name} is given twice: give it once, with the weight of both"
            )
        if added.freed is not None:
            raise ValueError(f"upstream {added.name} is of another pool: make one for each")
        added.freed = self._freed
        return added

    def remove(self, name: str) -> Upstream:
        """Take an upstream away; its clients stay with it, and nobody new comes.

        Args:
            name: its address, as text.

        Raises:
            LookupError: there is none of this name.
            ValueError: it is the last one.
        """
        gone = self.upstream(name)
        if len(self.upstreams) == 1:
            raise ValueError(f"{name} is the last upstream: a pool has at least one")
        self.upstreams = tuple(each for each in self.upstreams if each is not gone)
        self.changed()
        return gone

    def change(self, *upstreams: str | int | Address | Upstream, **settings: Any) -> None:
        """Be as a new pool would be that is made with this; in the engine's thread.

        Clients stay with their upstreams. What is known of one that stays, too, is kept.

        Args:
            upstreams: all of them, from now on. An ``Upstream`` object of this pool stays as it is;
                an address, or a new object, of one that is here changes that one. None at all:
                they stay.
            settings: arguments of ``Pool`` that change; the others stay.

        Raises:
            AddressError, TypeError, ValueError: see ``Pool``; nothing has changed then.
        """
        changing.change(self, upstreams, settings)

    def upstream(self, name: str) -> Upstream:
        """Return the upstream of an address.

        Raises:
            LookupError: there is none of this name.
        """
        for each in self.upstreams:
            if each.name == name:
                return each
        raise LookupError(f"no upstream {name!r}: there are {', '.join(map(str, self.stats()))}")

    def changed(self) -> None:
        """Hear that something of an upstream was set: ``weight``, ``out``, and so on."""
        now = self.clock()
        for each in self.upstreams:
            each._look(now)
        self._settle()

    def _called(self, upstream: Upstream) -> str:
        """Return an upstream's name for logs, where another pool may have the same address."""
        return f"{upstream.name} of pool {self.name}" if self.name else upstream.name

    def share_of(self, number: int, count: int) -> Self:
        """Return what one of several workers has of it; nothing is known of its upstreams yet.

        ``max_active``, ``queue`` and ``rate``, the pool's and its upstreams' own, and the bytes of
        these are shared out evenly, one client each at least. All else is as here, and each
        worker's own.

        Args:
            number: of the worker, from 1 on.
            count: of workers.

        Returns:
            The same one for all services of a worker, so that they count together.
        """
        share = number, count
        shared = self._shared
        if shared is None or shared.share != share:
            upstreams = (sharing.upstream_of(each, share) for each in self.upstreams)
            shared = type(self)(*upstreams, **sharing.settings_of(self._made_with, share))
            shared.share = share
            shared.changed()
            shared._turn[0] = number - 1  # or all of them would begin with the same upstream
            self._shared = shared
        return shared

    # -- how they fare

    def connected(self, upstream: Upstream) -> None:
        """It took a connection: it is up. The end of that is for ``Upstream.connection_lost``."""
        upstream.total += 1
        if upstream.rests_until is not None and not upstream.ejected:
            self.recovered(upstream)

    def recovered(self, upstream: Upstream) -> None:
        """It is up again: it took a client, or answered one, or its checks say so."""
        upstream.failing = ""
        upstream._recover(self.clock())
        self._settle()
        logger.warning("upstream %s is back", self._called(upstream))
        self.returned(upstream)

    def returned(self, upstream: Upstream) -> None:
        """It may have clients again: it starts slowly, and those who wait look for a place."""
        upstream.came_up = self.clock()
        if self.trials is not None and upstream.is_up:
            self.trials.rose(upstream)
        self.look_again()

    def fails(self, upstream: Upstream, why: str) -> None:
        """Its checks have failed: it gets no clients until they succeed."""
        if not upstream.failing:
            logger.warning("upstream %s is failing: %s", self._called(upstream), why)
        upstream.failing = why
        upstream._look(self.clock())
        self._settle()
        if self.trials is not None:
            self.trials.fell(upstream)

    def heard(self, upstream: Upstream, line: str) -> None:
        """Its agent has said something: see ``obey``."""
        before, served = upstream._told(), upstream.may_serve
        obey(upstream, line, self.share)
        if self.trials is not None and upstream.is_down:
            self.trials.fell(upstream)
        if upstream._told() == before:  # as nearly always, and all upstreams are looked at below
            return
        upstream._look(self.clock())
        self._settle()
        if upstream.may_serve and not served:
            self.returned(upstream)
        else:
            self.look_again()  # there may be more places

    def failed(self, upstream: Upstream, began: float, why: object) -> None:
        """A connection to it did not come about, and it is to blame.

        Args:
            upstream: it.
            began: when the attempt did.
            why: for the log.
        """
        upstream.failed += 1
        if pause := upstream._rest(began, self.clock(), self.spread()):
            upstream.error = str(why)
            self._settle()
            called = self._called(upstream)
            logger.warning("upstream %s is left alone for %.2g s: %s", called, pause, why)
        upstream._leave()

    def left(self, upstream: Upstream) -> None:
        """A client is gone before it was connected, through no fault of the upstream."""
        upstream.probing = False
        upstream._leave()

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each, by its address; from any thread."""
        now = self.clock()
        return {u.name: u.stats(now) for u in self.upstreams}
