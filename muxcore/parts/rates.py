"""Bytes a second: how much a connection may receive now, and whose turn it is.

The rules are those of ``csrc/rate.h``, and so are the names. Who finds less than a quantum in one
of its buckets waits there, in order; each turn is for a quantum, unless nobody else waits.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

from muxcore.parts.timers import Timer
from muxcore.rate import Rate

_PAGE = 4096  # bytes; below that a receive is hardly worth its call
_TICK = 0.001  # s: epoll_wait(2) waits for no less
_ROUNDED = 1e-6  # s: what a clock in floating point may lose; else a bucket is asked in vain


class Bucket:
    """What a loop in Python keeps of a rate.

    Args:
        engine: the loop.
        rate: what it stands for.
    """

    def __init__(self, engine: Any, rate: Rate) -> None:
        self.engine = weakref.ref(engine)
        self.level = float(rate.burst)  # bytes that may be received now
        self.waiting: OrderedDict[Limited, None] = OrderedDict()
        self._at = monotonic()
        self._timer: Timer | None = None
        self._set(rate.bytes_per_second, rate.burst)

    def change(self, bytes_per_second: float, burst: int) -> None:
        self.fill()
        self._set(bytes_per_second, burst)
        self.look_again()

    def _set(self, bytes_per_second: float, burst: int) -> None:
        self._per_second = bytes_per_second
        self._burst = burst
        self.quantum = max(1.0, min(burst / 2, max(_PAGE, bytes_per_second * _TICK)))

    def fill(self) -> None:
        now = monotonic()
        self.level = min(self._burst, self.level + (now - self._at) * self._per_second)
        self._at = now

    def wait(self, who: Limited, *, front: bool) -> None:
        """Put somebody at the end of the queue; or at the front: the turn was in vain."""
        self.waiting[who] = None
        if front:
            self.waiting.move_to_end(who, last=False)
        self.look_again()

    def look_again(self, promised: float = 0.0) -> None:
        """Look after the queue once there is a quantum for its first.

        Args:
            promised: bytes that are for others, who have had their turn just now.
        """
        engine = self.engine()
        if not self.waiting or engine is None:
            return
        left = max(0.0, promised + self.quantum - self.level) / self._per_second + _ROUNDED
        if self._timer is not None:
            if self._timer.when <= monotonic() + left:
                return  # it looks again by itself
            self._timer.cancel()
        self._timer = engine.alarm(left, self._give_turns)

    def _give_turns(self) -> None:
        """Let as many go on as there are quanta."""
        self._timer = None
        self.fill()
        promised, alone = 0.0, len(self.waiting) == 1
        while self.waiting and self.level >= promised + self.quantum:
            who, _ = self.waiting.popitem(last=False)
            if who.has_turn(self, None if alone else int(self.quantum)):
                promised += self.quantum
        self.look_again(promised)


class Limited:
    """One connection's rates.

    Args:
        buckets: what it counts against.
        go_on: called when it has its turn.
    """

    __slots__ = ("_buckets", "_go_on", "_share", "_turns", "_waits")

    def __init__(self, buckets: tuple[Bucket, ...], go_on: Callable[[], object]) -> None:
        self._buckets = buckets
        self._go_on = go_on
        self._turns: set[Bucket] = set()
        self._share: int | None = None  # the most that the turn is for
        self._waits: Bucket | None = None

    def room(self, size: int) -> int:
        """Return how much of ``size`` may be received; 0: nothing, and ``go_on`` will be called."""
        if self._waits is not None or self._has_to_wait():
            return 0
        if self._share is not None:
            size = min(size, self._share)
        return min(size, *(int(each.level) for each in self._buckets))

    def waits(self) -> bool:
        """Whether it waits for its turn, or has yet to use it."""
        return self._waits is not None or bool(self._turns)

    def spend(self, size: int) -> None:
        """So much was received; 0: there was nothing to use a turn for."""
        for each in self._buckets:
            each.level -= size
            each.look_again()
        self._turns.clear()
        self._share = None

    def has_turn(self, bucket: Bucket, share: int | None) -> bool:
        """Go on, unless another bucket has nothing; return whether it did."""
        self._waits = None
        self._turns.add(bucket)
        if share is not None:
            self._share = min(share, self._share or share)
        if self._has_to_wait():
            return False
        self._go_on()
        return True

    def leave(self) -> None:
        """It counts no longer."""
        if self._waits is not None:
            del self._waits.waiting[self]
            self._waits = None

    def _has_to_wait(self) -> bool:
        for each in self._buckets:
            each.fill()
            turn = each in self._turns
            if each.level < each.quantum or (each.waiting and not turn):
                self._waits = each
                each.wait(self, front=turn)
                return True
        return False
