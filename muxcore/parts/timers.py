"""Calls that are due later: a heap, in which a cancelled timer stays until its time.

Cancelled timers are swept out once they are the larger half, so that a program that sets and
cancels a time-out per message keeps a small heap (asyncio does the same).
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

from muxcore.limits import finite
from muxcore.parts.dispatch import run_call

# s; epoll_wait(2) takes 24.8 days in milliseconds. What is due later is asked for again (asyncio's
# MAXIMUM_SELECT_TIMEOUT is a day for the same reason)
LONGEST_WAIT = 86_400.0
_SWEEP_FROM = 64  # below that a sweep costs more than the heap


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two delays, of which None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class Timer:
    """A pending call; ``cancel()`` is idempotent, and harmless after the call was made."""

    __slots__ = ("_args", "_call", "_own", "_timers", "when")

    def __init__(
        self,
        timers: Timers,
        when: float,
        call: Callable[..., object],
        args: tuple[Any, ...],
        own: bool,
    ):
        self.when = when
        self._timers: Timers | None = timers
        self._own = own  # the engine's: not counted in the cap
        self._call: Callable[..., object] | None = call
        self._args = args

    def cancel(self) -> None:
        if self._timers is not None:
            self._timers._cancelled_one()
        self._clear()

    def cancelled(self) -> bool:
        """Whether the call was cancelled, or has been made."""
        return self._timers is None

    def _fire(self) -> None:
        call, args = self._call, self._args
        self._clear()
        if call is not None:
            run_call(call, args)

    def _clear(self) -> None:
        if self._timers is not None and not self._own:
            self._timers._others -= 1
        self._timers = self._call = None
        self._args = ()


class Timers:
    """The pending calls of one engine.

    Args:
        cap: calls that others may have pending; the engine's own are added without asking.
    """

    def __init__(self, cap: int) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()  # equal times run in the order they were set
        self._cancelled = 0
        self._others = 0  # pending, and not the engine's own
        self._cap = cap

    def __len__(self) -> int:
        return len(self.heap) - self._cancelled

    def add(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Run somebody else's ``call(*args)`` in ``delay`` seconds; a negative delay is none.

        Raises:
            TypeError: the delay is no number.
            ValueError: it is infinite, or not a number.
            RuntimeError: ``Limits.timers`` are pending already.
        """
        delay = finite("call_later()", delay)
        if self._others >= self._cap:
            raise RuntimeError(
                f"{self._cap} timers are pending: cancel some, or raise Limits.timers"
            )
        self._others += 1
        return self._push(delay, call, args, own=False)

    def add_own(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Run a call of the engine's own in ``delay`` seconds: a deadline, the end of a rest."""
        return self._push(delay, call, args, own=True)

    def _push(
        self, delay: float, call: Callable[..., object], args: tuple[Any, ...], *, own: bool
    ) -> Timer:
        timer = Timer(self, time.monotonic() + max(0.0, delay), call, args, own)
        heapq.heappush(self.heap, (timer.when, next(self._order), timer))
        return timer

    def delay(self) -> float | None:
        """Return the seconds to wait for the next call, a day at the most, or None without one."""
        while self.heap and self.heap[0][2].cancelled():
            heapq.heappop(self.heap)
            self._cancelled -= 1
        if not self.heap:
            return None
        return min(max(0.0, self.heap[0][0] - time.monotonic()), LONGEST_WAIT)

    def run_due(self, after: Callable[[], object] | None = None) -> None:
        """Run what is due now; what these calls add waits for the next turn.

        Args:
            after: called after each.
        """
        if not self.heap:
            return
        now, newest = time.monotonic(), next(self._order)
        later: list[tuple[float, int, Timer]] = []
        while self.heap and self.heap[0][0] <= now:
            entry = heapq.heappop(self.heap)
            if entry[2].cancelled():
                self._cancelled -= 1
            elif entry[1] > newest:
                later.append(entry)
            else:
                entry[2]._fire()
                if after:
                    after()
        for entry in later:
            heapq.heappush(self.heap, entry)

    def clear(self) -> None:
        for _, _, timer in self.heap:
            timer._clear()
        self.heap.clear()
        self._cancelled = 0

    def _cancelled_one(self) -> None:
        self._cancelled += 1
        if len(self.heap) > _SWEEP_FROM and self._cancelled * 2 > len(self.heap):
            # The one being cancelled is not cleared yet: it stays until its time or the next sweep
            self.heap[:] = [entry for entry in self.heap if not entry[2].cancelled()]
            heapq.heapify(self.heap)
            self._cancelled = 1
