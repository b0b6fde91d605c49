"""When the end of a parent goes on: phase after phase, as it was asked for or its time is over."""

from __future__ import annotations

import enum
import math

from muxcore.limits import Limits

_MARGIN = 5.0  # s beyond the time that it has: then a worker hangs
_KILL_AFTER = 0.5  # s between an abort, which waits for nothing, and SIGKILL


class Phase(enum.IntEnum):
    SERVING, DRAINING, STOPPING, ABORTING, KILLING = range(5)


class Ending:
    """The end of one parent.

    Args:
        timeout: seconds that a drain gives clients; None: as long as they like.

    Attributes:
        drain_asked, stop_asked, abort_asked: how it is to end: set by anybody, who then wakes it.
        timeout: the same; whoever asks for a drain may change it before.
        phase: where it is.
    """

    def __init__(self, timeout: float | None) -> None:
        self.drain_asked = self.stop_asked = self.abort_asked = False
        self.timeout = timeout
        self.phase = Phase.SERVING
        self._closes_at = math.inf  # when the listening sockets do
        self._over_at = math.inf  # when the time of clients is
        self._until = math.inf  # when the phase is over, and the next one begins

    def due(self) -> float:
        """Return monotonic(), when it goes on although nobody asks for it."""
        return min(self._until, self._closes_at, self._over_at)

    def goes_on(self, now: float, limits: Limits) -> bool:
        """Begin the next phase, if it was asked for or is due; return whether."""
        if now >= self._until:
            self.abort_asked = True
        if self.abort_asked and self.phase == Phase.ABORTING and now >= self._until:
            self._begin(Phase.KILLING, math.inf)
        elif self.abort_asked and self.phase < Phase.ABORTING:
            self._begin(Phase.ABORTING, now + _KILL_AFTER)
        elif self.stop_asked and self.phase < Phase.STOPPING:
            self._begin(Phase.STOPPING, now + limits.stop_timeout + _MARGIN)
        elif self.drain_asked and self.phase < Phase.DRAINING:
            self._closes_at = now + limits.drain_delay
            if self.timeout is not None:
                self._over_at = self._closes_at + self.timeout
            rest = limits.drain_spread + limits.stop_timeout + _MARGIN
            self._begin(Phase.DRAINING, self._over_at + rest)
        else:
            return False
        return True

    def _begin(self, phase: Phase, until: float) -> None:
        self.phase, self._until = phase, until
        if phase >= Phase.STOPPING:
            self._closes_at = math.inf  # they are closed with it

    def closes(self, now: float) -> bool:
        """Return, once, that a drain's delay is over: nobody new is taken from now on."""
        if now < self._closes_at:
            return False
        self._closes_at = math.inf
        return True

    def is_over(self, now: float) -> bool:
        """Return, once, that the time is over which a drain gives clients."""
        if now < self._over_at:
            return False
        self._over_at = math.inf
        return True
