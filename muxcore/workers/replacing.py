"""When a process that has died is replaced: at once, unless it dies again and again."""

from __future__ import annotations

SOON = 0.5  # s after it was ready: who dies by then has died of the start
FIRST_PAUSE = 0.1  # s; twice as long each time: 1.5 s in all before it is given up
MOST = 6  # deaths in a row: by then it is not an accident


class Replacing:
    """How often one has died early in a row."""

    def __init__(self) -> None:
        self.deaths = 0

    def pause(self, lived: float | None) -> float | None:
        """Return in how many seconds one that has died just now is replaced.

        Args:
            lived: how many seconds it was ready; None: it never was.

        Returns:
            None: it is given up.
        """
        if lived is not None and lived >= SOON:
            self.deaths = 0
            return 0.0
        self.deaths += 1
        if self.deaths >= MOST:
            return None
        return 0.0 if self.deaths == 1 else FIRST_PAUSE * 2.0 ** (self.deaths - 2)
