"""What a guard knows of its sources: a table with an end.

A source is known from its first connection on. One that has none now, and may have as much again as
one that was never seen, may be forgotten: those that have had none for the longest time go first,
two for each new one, so the table shrinks again by itself. Where every place is taken, and nobody
may be forgotten, those who are not in the table share one entry. So whoever comes with many
addresses lifts the limit of nobody who has reached it, and takes no memory beyond the table;
newcomers share a limit meanwhile.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Protocol

from muxcore.pool.speeds import Speeds
from muxcore.rate import Rate

_FORGETS = 2  # for each new one


class Heard(Protocol):
    """Who is told that a source's connection has ended, and what holds for all of them."""

    @property
    def up(self) -> tuple[Rate, ...]: ...

    @property
    def down(self) -> tuple[Rate, ...]: ...

    def left(self, source: Source) -> None: ...


class Source:
    """Where connections come from; it is the witness of their ends.

    Attributes:
        key: see ``source_of``; b"": all those who have no entry of their own.
        active: its connections.
        full_at: when it may have a second's worth of connections at once: see ``Pace``.
        free_at: when there is nothing more to remember of it, once it has no connections.
        speeds: its bytes a second, where they are limited.
    """

    __slots__ = ("_door", "active", "free_at", "full_at", "key", "speeds")

    def __init__(self, door: Heard, key: bytes) -> None:
        self._door = door
        self.key = key
        self.active = 0
        self.full_at = self.free_at = -math.inf
        self.speeds: Speeds | None = None

    @property
    def up(self) -> tuple[Rate, ...]:
        """What the bytes of its connections count against."""
        own = self.speeds.up if self.speeds is not None else None
        return self._door.up if own is None else (*self._door.up, own)

    @property
    def down(self) -> tuple[Rate, ...]:
        own = self.speeds.down if self.speeds is not None else None
        return self._door.down if own is None else (*self._door.down, own)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.left(self)


class Sources:
    """Those that are known.

    Args:
        door: told of the ends of their connections.
        most: how many are known at once.

    Attributes:
        others: the entry of all who are not.
    """

    def __init__(self, door: Heard, most: int) -> None:
        self._door = door
        self.most = most
        self.others = Source(door, b"")
        self._known: dict[bytes, Source] = {}
        self._idle: OrderedDict[bytes, Source] = OrderedDict()  # without connections, the last last

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: bytes, now: float) -> Source:
        """Return the entry of a source.

        Args:
            key: as ``source_of`` returns it.
            now: the time.
        """
        source = self._known.get(key)
        if source is None:
            self._forget(now)
            if len(self._known) >= self.most:
                return self.others
            source = self._known[key] = Source(self._door, key)
            self._idle[key] = source
        return source

    def entered(self, source: Source) -> None:
        """One of its connections begins."""
        source.active += 1
        self._idle.pop(source.key, None)

    def left(self, source: Source, free_at: float) -> None:
        """One of its connections has ended.

        Args:
            source: it.
            free_at: when its bytes are as if it had moved none.
        """
        source.active -= 1
        if not source.active and source is not self.others:
            source.free_at = max(source.full_at, free_at)
            self._idle[source.key] = source

    def become(self, up: float | None, down: float | None) -> None:
        """Let all that are known have other bytes a second."""
        for source in (self.others, *self._known.values()):
            if source.speeds is not None:
                source.speeds.become(up, down)

    def _forget(self, now: float) -> None:
        for _ in range(_FORGETS):
            longest = next(iter(self._idle.values()), None)
            if longest is None or max(longest.full_at, longest.free_at) > now:
                return
            del self._idle[longest.key], self._known[longest.key]
