"""Several upstreams: which one a client gets, and how long one that fails is left alone.

::

    up ──── it fails ───► resting ──── the pause is over, a client comes ───► probing
     ▲                       ▲──────────────── it fails: twice the pause ───────┘ │
     └──────────────────────── it is connected ───────────────────────────────────┘

Nothing here does I/O, and the clock is an argument. Failures are learnt from clients' own
connections: an upstream that fails while nobody comes is not noticed, and a probe that an upstream
leaves without an answer costs one client the time-out.
"""

from __future__ import annotations

import logging
import math
import mmap
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import AddressError
from muxcore.limits import checked

logger = logging.getLogger("muxcore.relay")

POLICIES = ("round-robin", "least-connections")

FIRST_PAUSE = 0.5  # s: a restart of a small server; a client is turned away by then anyway
LONGEST_PAUSE = 30.0  # s: how long one that is back may wait for its first client
_SPREAD = 0.2  # of a pause, either way: relays that lost an upstream at once do not return at once


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """What is known of one upstream.

    Attributes:
        state: "up", "resting" (it failed, and is left alone), or "probing" (one client tries it).
        active: clients joined with it now, or on their way to it.
        total: clients that were joined with it.
        failed: connections to it that did not come about.
        rests_for: seconds until it is tried again; 0 unless it rests.
    """

    state: str
    active: int
    total: int
    failed: int
    rests_for: float


class Upstream:
    """One upstream and its state; a protocol, too: of its connections, whose ends it counts.

    Attributes:
        address: where it is.
        name: the same as text.
        active, total, failed: as in ``UpstreamStats``.
        is_self: it is the server that relays to it.
    """

    __slots__ = (
        "_pause",
        "_rested_at",
        "active",
        "address",
        "failed",
        "is_self",
        "name",
        "probing",
        "rests_until",
        "total",
    )

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = str(address)
        self.active = self.total = self.failed = 0
        self.is_self = self.probing = False
        self.rests_until: float | None = None  # None: it is up
        self._rested_at = 0.0
        self._pause = 0.0

    def __repr__(self) -> str:
        return f"<Upstream {self.name} active={self.active}>"

    def connection_lost(self, exc: BaseException | None) -> None:
        """One that was connected to it has ended."""
        self.active -= 1


class Pool:
    """Upstreams that share the clients, for ``transport.relay(pool)`` and ``muxcore.Relay(pool)``.

    ::

        backends = muxcore.Pool("db1:5432", "db2:5432", connect_timeout=2)

    An upstream that cannot be connected to is left alone for half a second, then twice as long
    each time, up to 30 s, and gets one client as a probe after each pause; meanwhile clients get
    the next. A pool belongs to one server: its thread alone changes it.

    Args:
        upstreams: addresses as in ``muxcore.address.parse``: names, IPv4, IPv6, unix paths.
        policy: "round-robin", in turns; or "least-connections", the one with the fewest clients
            of this pool.
        connect_timeout: seconds that connecting to one upstream may take; None means
            ``Limits.connect_timeout``.
        max_active: clients at once for one upstream, those on their way to it included; one that
            has as many gets no more, and where all that are up have, a client is refused. None: no
            cap.
        clock: returns seconds that never go backward.
        spread: returns a number from 0 to 1, for the jitter of the pauses.

    Attributes:
        upstreams: one ``Upstream`` for each address, in order.
        requires: what it requires of an engine: ``least-connections`` and ``max_active`` count
            clients in one place, which takes ``shared_state``.

    Raises:
        AddressError: an upstream's address is malformed, has port 0, or is given twice.
        TypeError: there is no upstream.
        ValueError: the policy is unknown, or a number cannot work.
    """

    def __init__(
        self,
        *upstreams: str | int | Address,
        policy: str = "round-robin",
        connect_timeout: float | None = None,
        max_active: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = random.random,
    ) -> None:
        if not upstreams:
            raise TypeError("at least one upstream is needed, such as 'db1:5432'")
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if connect_timeout is not None:
            checked("Pool", "connect_timeout", connect_timeout)
        self.upstreams = tuple(Upstream(address) for address in _parsed(upstreams))
        self.policy = policy
        self.connect_timeout = connect_timeout
        self.max_active = _checked_cap(max_active)
        self.clock = clock
        self._spread = spread
        self._least = policy == "least-connections"
        self._most = math.inf if max_active is None else max_active
        counts = self._least or max_active is not None
        self.requires = frozenset({"shared_state"} if counts else ())
        self._down = 0  # of them, how many are not up
        self._turn = _shared_number()
        self._made_with = {
            "policy": policy,
            "connect_timeout": connect_timeout,
            "max_active": max_active,
            "clock": clock,
            "spread": spread,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew in a worker: what is known of the upstreams is one process's."""
        return _remade, (tuple(u.address for u in self.upstreams), self._made_with)

    def __repr__(self) -> str:
        return f"Pool({', '.join(repr(u.name) for u in self.upstreams)})"

    def take(self, tried: Collection[Upstream] = ()) -> Upstream | None:
        """Return the upstream for a client, which is counted there at once.

        One whose pause is over comes first, and gets this one client. Then those that are up, as
        the policy has it. Where none is up, the one that is due first is tried all the same.

        Args:
            tried: those that this client is not to get again.

        Returns:
            None where all were tried, or have ``max_active`` clients. One that it returned is told
            of to ``connected``, ``failed`` or ``left``.
        """
        every, turn = self.upstreams, self._turn[0]
        self._turn[0] = turn + 1
        first = turn % len(every)
        chosen: Upstream | None = every[first]
        if self._down or tried or self._least or every[first].active >= self._most:
            chosen = self._found([u for u in every[first:] + every[:first] if u not in tried])
        if chosen is not None:
            chosen.active += 1
        return chosen

    def connected(self, upstream: Upstream) -> None:
        """It took a connection: it is up. The end of that is for ``Upstream.connection_lost``."""
        upstream.total += 1
        if upstream.rests_until is not None:
            upstream.rests_until = None
            upstream.probing = False
            upstream._pause = 0.0
            self._down -= 1
            logger.warning("upstream %s is back", upstream.name)

    def failed(self, upstream: Upstream, began: float, why: object) -> None:
        """A connection to it did not come about, and it is to blame.

        Args:
            upstream: the one.
            began: when the attempt did. What began before the pause tells nothing new: the many
                clients of an upstream that dies do not make it one long pause.
            why: for the log.
        """
        upstream.active -= 1
        upstream.failed += 1
        upstream.probing = False
        now = self.clock()
        if upstream.rests_until is None:
            self._down += 1
        elif now < upstream.rests_until or began < upstream._rested_at:
            return
        upstream._pause = min(max(FIRST_PAUSE, 2 * upstream._pause), LONGEST_PAUSE)
        pause = upstream._pause * (1 - _SPREAD + 2 * _SPREAD * self._spread())
        upstream._rested_at, upstream.rests_until = now, now + pause
        logger.warning("upstream %s is left alone for %.2g s: %s", upstream.name, pause, why)

    def left(self, upstream: Upstream) -> None:
        """A client is gone before it was connected, through no fault of the upstream."""
        upstream.active -= 1
        upstream.probing = False

    def full(self) -> int:
        """Return how many of them have ``max_active`` clients."""
        return sum(upstream.active >= self._most for upstream in self.upstreams)

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each, by its address; from any thread."""
        now = self.clock()
        return {u.name: _stats_of(u, now) for u in self.upstreams}

    def _found(self, left: list[Upstream]) -> Upstream | None:
        now = self.clock()
        free = [u for u in left if u.active < self._most]
        resting = [u for u in free if u.rests_until is not None]
        if resting:
            first = min(resting, key=_due)
            if _due(first) <= now and not first.probing:
                first.probing = True
                return first
        if any(u.rests_until is None for u in left):
            up = [u for u in free if u.rests_until is None]
            if not up:  # none that rests is hurried because the others are busy
                return None
            return min(up, key=_active) if self._least else up[0]
        return min(resting, key=_due, default=None)


def _remade(upstreams: tuple[Address, ...], named: dict[str, Any]) -> Pool:
    return Pool(*upstreams, **named)


_shared: list[memoryview] = []  # numbers in memory that forked children share, yet to be given out


def _shared_number() -> memoryview:
    """Return a number that says whose turn it is.

    Forked children share it: each serves one client, and all would begin with the same upstream. A
    turn that two of them take at once does no harm. A page has many: a process may have tens of
    thousands of pools, and 65,530 mappings (vm.max_map_count).
    """
    if not _shared:
        page = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        _shared.extend(page[at : at + 1] for at in range(len(page)))
    return _shared.pop()


def _due(upstream: Upstream) -> float:
    """When it may be probed; one that is being probed comes after all others."""
    assert upstream.rests_until is not None
    return float("inf") if upstream.probing else upstream.rests_until


def _active(upstream: Upstream) -> int:
    return upstream.active


def _stats_of(upstream: Upstream, now: float) -> UpstreamStats:
    rests_until = upstream.rests_until
    state, rests_for = "up", 0.0
    if rests_until is not None:
        state = "probing" if upstream.probing else "resting"
        rests_for = max(0.0, rests_until - now)
    return UpstreamStats(state, upstream.active, upstream.total, upstream.failed, rests_for)


def _parsed(upstreams: tuple[str | int | Address, ...]) -> list[Address]:
    found: dict[Address, None] = {}
    for each in upstreams:
        where = addresses.parse(each)
        if not where.path and not where.port:
            raise AddressError(f"upstream {where}: nobody can be connected to at port 0")
        if where in found:
            raise AddressError(f"upstream {where} is given twice")
        found[where] = None
    return list(found)


def _checked_cap(most: Any) -> int | None:
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(
            f"Pool(max_active={most!r}): it must be a whole number of clients, at least 1; None is "
            "no cap"
        )
    return most
