"""The clients that a pool could give no upstream: counted by why, and told of now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

from muxcore._seldom import Seldom

logger = logging.getLogger("muxcore.relay")

REASONS = {
    "down": "no upstream may have clients: each is failing, or out",
    "failed": "those that were tried could not be connected to",
    "full": "each that is up has as many clients as it may, and nobody more may wait",
    "waited": "no place came free in time",
}


class Refusals:
    """What a pool knows of clients that it refused.

    Args:
        clock: returns seconds that never go backward.

    Attributes:
        counts: how many, by the names of ``REASONS``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts = dict.fromkeys(REASONS, 0)
        self._seldom = Seldom(logger.warning, clock)

    def count(self, reason: str, pool: str, why: object) -> None:
        """Count one more.

        Args:
            reason: one of ``REASONS``.
            pool: the pool's name; "": it has none.
            why: in words.
        """
        self.counts[reason] += 1
        self._seldom.tell(
            "a client of %s is refused: %s", f"pool {pool}" if pool else "a pool", why
        )
