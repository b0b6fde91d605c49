"""How late a loop is: what it does between two looks at its clock takes that long."""

from __future__ import annotations

from time import monotonic

from muxcore.abc import Engine

_EVERY = 0.1  # s between two looks: ten a second cost nothing that can be measured
_SHARE = 0.1  # of the newest look in the average: it is what the last two seconds were like


class Lag:
    """The lag of one engine's loop, from ``begin`` on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._due = monotonic() + _EVERY
        self._average = 0.0

    def begin(self) -> None:
        """Look from now on; in the engine's thread."""
        self._due = monotonic() + _EVERY
        self._engine.alarm(_EVERY, self._look)

    def seconds(self) -> float:
        """Return how late it is, on average, or since when it hangs; from any thread."""
        return max(self._average, monotonic() - self._due)

    def _look(self) -> None:
        late = max(0.0, monotonic() - self._due)
        self._average += (late - self._average) * _SHARE
        self.begin()
