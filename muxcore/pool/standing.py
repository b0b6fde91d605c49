"""What follows for a pool from what its upstreams are, and from what it was told.

It is looked at once something has changed, and not for each client.
"""

from __future__ import annotations

import logging
import math
from typing import Self

from muxcore.pool import policies, sharing
from muxcore.pool.checks import Check
from muxcore.pool.taking import Taking
from muxcore.pool.trials import Trials

logger = logging.getLogger("muxcore.relay")

_COUNTING = frozenset({"least-connections", "two-random"})


class Standing(Taking):
    """The part of a pool that sees how it stands."""

    name: str
    policy: str
    max_active: int | None
    retry_for: float
    check: Check | None
    trials: Trials | None
    share: tuple[int, int]
    requires: frozenset[str]

    def __init__(self) -> None:
        super().__init__()
        self._is_plain = False  # every one is up, and they take turns: no more to think about
        self._has_one_up = True  # as was told last
        self._shared: Self | None = None  # what a worker was given of it

    def _settle(self) -> None:
        """See what follows from what has changed; of each upstream it is known for how long."""
        self._shared = None  # it is made anew of what holds now
        self.requires = self._required()
        self._is_plain = (
            self._choose is policies.in_turns
            and not self.slow_start
            and self._most == math.inf
            and self.pace is None
            and len({each.weight for each in self.upstreams}) == 1
            and all(
                each.is_up and not (each.backup or each.max_active or each.pace)
                for each in self.upstreams
            )
            and all(each.percent == 100 for each in self.upstreams)
        )
        has_one_up = any(each.is_up for each in self.upstreams)
        if self._has_one_up and not has_one_up:
            what = f"pool {self.name}" if self.name else repr(self)
            logger.error("%s has no upstream that is up", what)
        self._has_one_up = has_one_up

    def _required(self) -> frozenset[str]:
        caps = self.max_active or self.pace or self.queue
        counts = caps or self.slow_start or self.check or self.policy in _COUNTING
        counts = counts or any(each.max_active or each.pace for each in self.upstreams)
        required = {"shared_state"} if counts and self.share == sharing.WHOLE else set()
        timed = {"timers"} if self.queue or self.check or self.retry_for else set()
        timed |= {"timers"} if self.trials is not None else set()
        limited = any(each.witness is not None for each in self.upstreams)
        return frozenset(required | timed | ({"rates"} if limited else set()))
