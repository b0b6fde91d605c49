"""Judging by time on a machine that may stand still: a busy one, or a guest that is not run.

Whoever holds an engine to a deadline is held up at times, too. What was seen counts only where the
observer was at work: a pause of its own is no pause of the engine's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from muxcore.testing.peer import DEADLINE

T = TypeVar("T")

SOON = min(2.0, DEADLINE)  # s at work; what is to happen so soon needs milliseconds

_LOOK = 0.002  # s between two looks
_COUNTS = 0.01  # s; the most that one look counts: whoever comes later was held up
_TRIES = 12  # of a peer that was held up each time: by then it is not the machine
_JUDGED = (AssertionError, OSError)  # what a peer raises whose connection was ended


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """Make a call that may wait, and return what it returned.

    Args:
        seconds: that it may take, of those in which this process was at work.
        what: for the message.

    Raises:
        AssertionError: it took longer.
        BaseException: whatever it raised.
    """
    results: list[Any] = []

    def run() -> None:
        try:
            results.append((call(), None))
        except BaseException as exc:
            results.append((None, exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    soon(lambda: bool(results), what, seconds)
    thread.join()
    result, exc = results[0]
    if exc is not None:
        raise exc
    return result  # type: ignore[no-any-return]


def soon(holds: Callable[[], bool], what: str, seconds: float = SOON) -> None:
    """Wait until ``holds()``, for some seconds in which this process was at work."""
    worked, last = 0.0, time.monotonic()
    while not holds():
        assert worked <= seconds, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK)
        worked, last = worked + min(time.monotonic() - last, _COUNTS), time.monotonic()


class Pace:
    """A peer's pace: what fails in its block counts only if the peer was never held up so long.

    Args:
        most: seconds from the step before the last to the next; all that lies between two events of
            the engine's lies between those.

    Attributes:
        lost: whether something failed, and the peer was held up.
    """

    def __init__(self, most: float) -> None:
        self.lost = False
        self._most = most
        self._longest = 0.0
        self._steps: tuple[float, float] | None = None

    def __enter__(self) -> Self:
        self._steps = (time.monotonic(), time.monotonic())
        return self

    def step(self) -> None:
        """The peer has acted, and seen the engine's answer, where there is one."""
        if self._steps is not None:
            before, last = self._steps
            now = time.monotonic()
            self._longest = max(self._longest, now - before)
            self._steps = (last, now)

    def end(self) -> None:
        """The peer need not act any more: from here on time does not count."""
        self.step()
        self._steps = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.step()
        self.lost = isinstance(exc, _JUDGED) and self._longest >= self._most
        return self.lost


def paced(most: float) -> Iterator[Pace]:
    """Yield a pace for each try, until a peer kept it or nothing failed.

    Raises:
        AssertionError: it did not in any of many tries.
    """
    for _ in range(_TRIES):
        pace = Pace(most)
        yield pace
        if not pace.lost:
            return
    raise AssertionError(f"the peer was held up for {most:g} s in each of {_TRIES} tries")
