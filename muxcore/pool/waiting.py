"""The clients of a pool that wait for a place, in turn."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable

_SOON = 0.01  # s until the first who waits is asked again, where a token was not what it needs


class Waiting(abc.ABC):
    """The queue of a pool.

    Attributes:
        queue: how many may wait.
        is_watched: somebody calls ``wake_paced`` in time.
    """

    queue: int

    def __init__(self) -> None:
        self.is_watched = False
        self._waiting: deque[Callable[[], object]] = deque()

    @property
    def waiting(self) -> int:
        """How many clients wait for a place."""
        return len(self._waiting)

    def wait(self, call: Callable[[], object], *, first: bool = False) -> bool:
        """Have ``call()`` called once a place may be free, in turn.

        Args:
            call: it; it takes an upstream, or waits again.
            first: before all others: it was its turn, and somebody else had the place.

        Returns:
            Whether it waits: the queue has an end.
        """
        if not first and len(self._waiting) >= self.queue:
            return False
        (self._waiting.appendleft if first else self._waiting.append)(call)
        return True

    def give_up(self, call: Callable[[], object]) -> None:
        """Forget somebody who waits."""
        self._waiting.remove(call)

    def wake_paced(self) -> float | None:
        """Let those who wait have the tokens that are there.

        Returns:
            The seconds until this is to be done again; None: nobody waits for a token.
        """
        while self._waiting and self._next_token() == 0:
            if not self._freed():  # it is not to get that one again
                return _SOON
        return self._next_token() if self._waiting else None

    def look_again(self) -> None:
        """Let those who wait look for places: there may be several by now."""
        while self._waiting and self._freed():
            pass

    def _freed(self) -> bool:
        """Let the first who waits look for a place; return whether it waits no more."""
        before = len(self._waiting)
        if before:
            self._waiting.popleft()()
        return len(self._waiting) < before

    @abc.abstractmethod
    def _next_token(self) -> float | None:
        """Return the seconds until one that lacks nothing but a token may have a client.

        Returns:
            0: one may; None: time changes nothing.
        """
