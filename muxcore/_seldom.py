"""A line of a log that strangers can cause: told at a bounded rate, with how many were not told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVERY = 10.0  # s: six lines a minute tell as much as sixty thousand


class Seldom:
    """Tells now and then.

    Args:
        log: a logger's method.
        clock: returns seconds that never go backward.
    """

    def __init__(
        self, log: Callable[..., None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._next = 0.0  # when it tells again
        self._untold = 0

    def tell(self, text: str, *args: object, **more: Any) -> None:
        """Log this, unless something was logged within the last ten seconds.

        Args:
            text, args, more: as of a logger's methods.
        """
        now = self._clock()
        if self._next and now < self._next:
            self._untold += 1
            return
        if self._untold:
            text, args = text + " (and %d more before it were not told)", (*args, self._untold)
        self._next, self._untold = now + EVERY, 0
        self._log(text, *args, **more)
