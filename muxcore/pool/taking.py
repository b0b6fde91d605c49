"""Which upstream a client gets: of those that are up and have room, as the policy has it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from muxcore.pool.pace import Pace
from muxcore.pool.policies import Policy
from muxcore.pool.upstream import Upstream
from muxcore.pool.waiting import Waiting


class Taking(Waiting):
    """The part of a pool that gives a client its upstream."""

    upstreams: tuple[Upstream, ...]
    clock: Callable[[], float]
    slow_start: float
    pace: Pace | None
    _choose: Policy
    _is_plain: bool
    _most: float
    _turn: memoryview

    def take(self, tried: Collection[Upstream] = (), key: bytes = b"") -> Upstream | None:
        """Return the upstream for a client, which is counted there at once.

        One whose pause is over comes first, and gets this one client. Then those that are up, as
        the policy has it; backups only where no other is up, or where this client would be refused
        since all others are full: without a queue. Where none is up, the one whose pause ends first
        is tried all the same.

        Args:
            tried: those that this client is not to get again.
            key: what says which one the client has, under "source".

        Returns:
            None where all were tried, may serve nobody, or have no room. What became of one that
            was returned, ``connected``, ``failed`` or ``left`` is to be told.
        """
        turn = self._turn[0]
        self._turn[0] = turn + 1
        if self._is_plain and not tried:
            chosen: Upstream | None = self.upstreams[turn % len(self.upstreams)]
        else:
            chosen = self._found([u for u in self.upstreams if u not in tried], turn, key)
        if chosen is not None:
            chosen.active += 1
            if (pace := chosen.pace or self.pace) is not None:
                chosen.full_at = pace.taken(chosen.full_at, self.clock())
        return chosen

    def full(self) -> int:
        """Return how many of them have no room: as many clients as they may have, or no token."""
        return sum(not self._has_room(upstream) for upstream in self.upstreams)

    def is_busy(self, tried: Collection[Upstream] = ()) -> bool:
        """Return whether one that is up has no place now, and may have one soon.

        Args:
            tried: those that this client is not to get again.
        """
        return any(u.is_up and not self._has_room(u) for u in self.upstreams if u not in tried)

    def _next_token(self) -> float | None:
        now = self.clock()
        paced = (u for u in self.upstreams if u.pace or self.pace)
        waits = (self._wait(u, now) for u in paced if u.is_up and self._has_place(u))
        return min(waits, default=None)

    def _found(self, left: list[Upstream], turn: int, key: bytes) -> Upstream | None:
        now = self.clock()
        free = [u for u in left if self._has_room(u) and u.may_serve]
        up = [u for u in left if u.is_up]
        usable = [u for u in up if not u.backup]
        spares = any(map(self._has_room, usable)) or bool(usable and self.queue)
        if not spares:
            usable = up
        resting = [u for u in free if u.rests_until is not None and not (spares and u.backup)]
        if resting:
            first = min(resting, key=Upstream._due)
            if first._due() <= now and not first.probing:
                first.probing = True
                return first
        if usable:  # where all are full, none that rests is hurried
            shared = [(u, u._share(now, self.slow_start)) for u in usable if self._has_room(u)]
            return self._choose(shared, turn, key) if shared else None
        return min(resting, key=Upstream._due, default=None)

    def _has_room(self, upstream: Upstream) -> bool:
        return self._has_place(upstream) and not self._wait(upstream, self.clock())

    def _has_place(self, upstream: Upstream) -> bool:
        most = self._most if upstream.max_active is None else upstream.max_active
        return upstream.active < most

    def _wait(self, upstream: Upstream, now: float) -> float:
        """Return the seconds until its rate allows it a client."""
        if (pace := upstream.pace or self.pace) is None:
            return 0.0
        upstream.full_at = pace.at_latest(upstream.full_at, now)
        return pace.wait(upstream.full_at, now)


def key_of(peername: Any) -> bytes:
    """Return the key of a client that is given no other: its address without the port.

    Args:
        peername: as ``transport.get_extra_info("peername")`` has it.
    """
    return str(peername[0]).encode() if isinstance(peername, tuple) else b""
