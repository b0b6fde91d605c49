"""One upstream: what it may take, how it fares, and how long it is left alone where it fails.

::

    up ──── it fails ───► resting ──── the pause is over, a client comes ───► probing
     ▲                       ▲──────────────── it fails: twice the pause ───────┘ │
     └──────────────────────── it is connected ───────────────────────────────────┘

Beside that a check (see ``checks.py``) may find it failing, clients may eject it (``trials.py``),
and whoever steers the pool may take it out. Nothing here does I/O, and the time is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import AddressError
from muxcore.pool.pace import checked_rate

FIRST_PAUSE = 0.5  # s: a restart of a small server; a client is turned away by then anyway
LONGEST_PAUSE = 30.0  # s: how long one that is back may wait for its first client
SPREAD = 0.2  # of a pause, either way: relays that lost an upstream at once do not return at once
MOST_WEIGHT = 256  # as in HAProxy: a turn of the pool has as many places as all weights together
HEADERS = ("", "v1", "v2", "v2-crc32c")  # PROXY headers that an upstream may want; "": none
STEPS = 10  # of a slow start: a tenth of the weight, two tenths, …
_SLACK = 1e-6  # of a tenth: what a percentage of a weight is off by is less


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """What is known of one upstream.

    Attributes:
        state: "up", "resting" (it failed, and is left alone), "ejected" (likewise, for it took
            clients and did not answer), "probing" (one client tries it),
            "failing" (its check or its agent says so), or "out" (somebody took it out, or its
            agent did).
        active: clients joined with it now, or on their way to it.
        total: clients that were joined with it.
        failed: connections to it that did not come about.
        rests_for: seconds until it is tried again; 0 unless it rests.
        weight: its share, beside that of the others.
        backup: it gets clients only while no other is up.
        why: it is failing, out by its agent, or rests.
        unanswered: clients that were joined with it, and had no answer; counted in a pool that
            ejects, or has a ``first_byte_timeout``.
        changed_ago: seconds since it became up, or ceased to be.
    """

    state: str
    active: int
    total: int
    failed: int
    rests_for: float
    weight: int = 1
    backup: bool = False
    why: str = ""
    unanswered: int = 0
    changed_ago: float = field(default=0.0, compare=False)


class Upstream:
    """One upstream of a pool; a protocol, too: of its connections, whose ends it counts.

    Args:
        address: as in ``muxcore.address.parse``.
        weight: its share of the clients, from 1 to 256.
        backup: it gets clients only while none that is no backup is up.
        max_active: clients at once; None means the pool's.
        rate: new clients a second; None means the pool's.
        out: it gets no clients, until ``out`` is False.
        send_proxy: the PROXY header that it gets before a client's bytes: "v1", "v2", "v2-crc32c"
            (with a checksum), or "" for none; None means the pool's.

    Attributes:
        address: where it is.
        name: the same as text.
        active, total, failed, unanswered: as in ``UpstreamStats``.
        is_self: it is the server that relays to it.
        full_at: when it may have a second's worth of clients at once: see ``pace.py``.
        ejected: it rests since clients that it took had no answer: see ``trials.py``.

    Raises:
        AddressError: the address is malformed, or has port 0.
        ValueError: a number cannot work.
    """

    __slots__ = (
        "_doubted_at",
        "_doubts",
        "_pause",
        "_rested_at",
        "_since",
        "_was_up",
        "active",
        "address",
        "backup",
        "came_up",
        "ejected",
        "error",
        "failed",
        "failing",
        "freed",
        "full_at",
        "is_self",
        "max_active",
        "name",
        "out",
        "pace",
        "percent",
        "probing",
        "rests_until",
        "said",
        "send_proxy",
        "total",
        "unanswered",
        "weight",
        "withdrawn",
    )

    def __init__(
        self,
        address: str | int | Address,
        *,
        weight: int = 1,
        backup: bool = False,
        max_active: int | None = None,
        rate: float | None = None,
        out: bool = False,
        send_proxy: str | None = None,
    ) -> None:
        self.address = addresses.parse(address)
        self.name = str(self.address)
        if not self.address.path and not self.address.port:
            raise AddressError(f"upstream {self.name}: nobody can be connected to at port 0")
        self.weight = checked_count("Upstream", "weight", weight, MOST_WEIGHT)
        self.max_active = checked_cap("Upstream", max_active)
        self.rate = rate
        self.full_at = -math.inf
        self.backup = backup
        self.out = out
        self.send_proxy = None if send_proxy is None else checked_header("Upstream", send_proxy)
        self.active = self.total = self.failed = self.unanswered = 0
        self.is_self = self.probing = self.ejected = False
        self.rests_until: float | None = None  # None: it does not rest
        self.error = ""  # why it rests
        self.failing = ""  # what its check found; "": nothing
        self.said = ""  # by its agent, where that is that it does not serve
        self.withdrawn = ""  # by its agent, which says drain or maint; "": it is not
        self.percent = 100.0  # of its weight, as its agent says
        self.came_up = -math.inf  # when it was back, for a slow start
        self.freed: Callable[[], object] | None = None  # told of each place that is free again
        self._was_up: bool | None = None  # when it was looked at last; None: not yet
        self._since = 0.0  # when that became so
        self._rested_at = 0.0
        self._pause = 0.0
        self._doubts = 0  # clients in a row that had no answer
        self._doubted_at = 0.0  # when the first of them came

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew in a worker: what is known of it is one process's."""
        named: dict[str, Any] = {"weight": self.weight, "backup": self.backup, "out": self.out}
        named |= {"max_active": self.max_active, "send_proxy": self.send_proxy}
        named["rate"] = self.rate
        return _remade, (self.address, named)

    def __repr__(self) -> str:
        return f"<Upstream {self.name} active={self.active}>"

    def _become(self, other: Upstream) -> None:
        """Be told what another one is told; what is known of it stays."""
        self.weight, self.backup, self.out = other.weight, other.backup, other.out
        self.max_active, self.send_proxy = other.max_active, other.send_proxy
        self.rate = other.rate

    @property
    def rate(self) -> float | None:
        """New clients a second; None: the pool's."""
        return None if self.pace is None else self.pace.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        self.pace = checked_rate("Upstream", "rate", rate)

    @property
    def is_up(self) -> bool:
        """Whether it gets clients."""
        return self.rests_until is None and self.may_serve

    @property
    def may_serve(self) -> bool:
        """Whether it would get clients if it took them: nobody says otherwise."""
        no = self.failing or self.said or self.out or self.withdrawn
        return not no and self.percent > 0

    @property
    def is_down(self) -> bool:
        """Whether its check or its agent says that it does not serve; to drain is another thing."""
        return bool(self.failing or self.said) or self.withdrawn.endswith("maint")

    def connection_lost(self, exc: BaseException | None) -> None:
        """One that was connected to it has ended."""
        self._leave()

    def _leave(self) -> None:
        """A client is gone: there is a place for another one."""
        self.active -= 1
        if self.freed is not None:
            self.freed()

    def _told(self) -> tuple[object, ...]:
        """Return what its agent may say of it."""
        return self.percent, self.said, self.withdrawn, self.max_active

    def _look(self, now: float) -> None:
        """See whether it is up, for how long it has been so."""
        if (is_up := self.is_up) is not self._was_up:
            self._was_up, self._since = is_up, now

    def _due(self) -> float:
        """Return when it may be probed; one that is being probed comes after all others."""
        assert self.rests_until is not None
        return math.inf if self.probing else self.rests_until

    def _rest(self, began: float, now: float, jitter: float) -> float:
        """Leave it alone, after a connection to it that did not come about.

        Args:
            began: when that attempt did.
            now: the time.
            jitter: a number from 0 to 1.

        Returns:
            For how many seconds; 0 where this told nothing new: what began before the pause did,
            since the many clients of an upstream that dies do not make it one long pause.
        """
        self.probing = False
        if self.rests_until is not None and (now < self.rests_until or began < self._rested_at):
            return 0.0
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        pause = self._pause * (1 - SPREAD + 2 * SPREAD * jitter)
        self._rested_at, self.rests_until = now, now + pause
        self._look(now)
        return pause

    def _recover(self, now: float) -> None:
        """It has taken a connection, or passed its check: it rests no more."""
        self.rests_until, self.probing, self._pause = None, False, 0.0
        self.ejected, self._doubts = False, 0
        self.came_up = now
        self._look(now)

    def _share(self, now: float, slow_start: float) -> int:
        """Return its weight in tenths: of those that a slow start allows by now, the percentage
        that its agent says."""
        passed = now - self.came_up
        steps = STEPS
        if passed < slow_start:
            steps = min(STEPS, 1 + int(STEPS * passed / slow_start))
        weight = min(self.weight * self.percent / 100, MOST_WEIGHT)
        return max(1, int(weight * steps + _SLACK))

    def stats(self, now: float) -> UpstreamStats:
        """Return a snapshot."""
        state, rests_for = "up", 0.0
        if self.out or self.withdrawn or not self.percent:
            state = "out"
        elif self.failing or self.said:
            state = "failing"
        elif self.rests_until is not None:
            state = "ejected" if self.ejected else "resting"
            state = "probing" if self.probing else state
            rests_for = max(0.0, self.rests_until - now)
        counts = (self.active, self.total, self.failed)
        why = self.failing or self.said or self.withdrawn
        why = why or ("" if self.rests_until is None else self.error)
        return UpstreamStats(
            *(state, *counts, rests_for, self.weight, self.backup, why, self.unanswered),
            changed_ago=round(now - self._since, 3) if self._was_up is not None else 0.0,
        )


def _remade(address: Address, named: dict[str, Any]) -> Upstream:
    return Upstream(address, **named)


def checked_count(owner: str, name: str, value: Any, most: int, least: int = 1) -> int:
    """Return a whole number from ``least`` to ``most``, or refuse it.

    Args:
        owner: the class that it was given to.
        name: the argument.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(
            f"{owner}({name}={value!r}): {name} must be a whole number from {least} to {most:,}, "
            f"not {value!r}"
        )
    return value


def checked_header(owner: str, send: Any) -> str:
    """Return which PROXY header is to be sent, or refuse it.

    Raises:
        ValueError: there is none such.
    """
    if send not in HEADERS:
        raise ValueError(
            f"{owner}(send_proxy={send!r}): send_proxy must be one of {', '.join(HEADERS[1:])}, or "
            f"'' for none, not {send!r}"
        )
    return str(send)


def checked_cap(owner: str, most: Any) -> int | None:
    """Return a cap on clients, or refuse it.

    Raises:
        ValueError: it is neither None nor a whole number of at least 1.
    """
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(
            f"{owner}(max_active={most!r}): max_active must be a whole number of clients, at least "
            f"1, not {most!r}; None is no cap"
        )
    return most
