"""Who is waited for: connections to a pool's upstreams, looked at until the first byte has come.

One timer serves all of them. A look costs a question to the engine, wherever the bytes are moved;
where nobody is to be looked at, nothing is asked and no timer runs.
"""

from __future__ import annotations

from collections import deque

from muxcore.parts.outgoing import Connects
from muxcore.pool.trials import LOOKS, PROBE, Trial, Trials

_AT_ONCE = 1000  # looks in one turn: 2 ms, for which others wait


def begin(trials: Trials, engine: Connects) -> None:
    """Look at a pool's trials from now on; in the engine's thread.

    Args:
        trials: they; once they are looked at, nothing is done.
        engine: the engine, or ``transport.server``.
    """
    if trials.on_begun is None:
        trials.on_begun = _Rounds(engine, (trials.timeout or PROBE) / LOOKS).add


class _Rounds:
    """Looks at everybody in turn, once every so many seconds."""

    def __init__(self, engine: Connects, every: float) -> None:
        self._engine = engine
        self._every = every
        self._trials: deque[Trial] = deque()
        self._left = 0  # of this round
        self._is_set = False  # the timer

    def add(self, trial: Trial) -> None:
        self._trials.append(trial)
        if not self._is_set:
            self._is_set = True
            self._engine.call_later(self._every, self._look)

    def _look(self) -> None:
        trials = self._trials
        self._left = self._left or len(trials)
        for _ in range(min(self._left, _AT_ONCE)):
            trial = trials.popleft()
            self._left -= 1
            if trial.look():
                trials.append(trial)
        self._is_set = bool(trials)
        if trials:
            self._engine.call_later(0 if self._left else self._every, self._look)
