"""Rounds: many connections are looked at in turn, by one timer.

A look costs a question to the engine, wherever the bytes are moved; where nobody is to be looked
at, nothing is asked and no timer runs.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from muxcore.parts.outgoing import Connects

_AT_ONCE = 1000  # looks in one turn: 2 ms, for which others wait


class Looked(Protocol):
    """Somebody who is looked at."""

    def look(self) -> bool:
        """Look; return whether to look again."""


class Rounds:
    """Looks at everybody in turn, once every so many seconds; in the engine's thread.

    Args:
        engine: the engine, or ``transport.server``.
        every: seconds.
    """

    def __init__(self, engine: Connects, every: float) -> None:
        self._engine = engine
        self._every = every
        self._those: deque[Looked] = deque()
        self._left = 0  # of this round
        self._is_set = False  # the timer

    def add(self, one: Looked) -> None:
        """Look at one from the next round on."""
        self._those.append(one)
        if not self._is_set:
            self._is_set = True
            self._engine.call_later(self._every, self._look)

    def _look(self) -> None:
        those = self._those
        self._left = self._left or len(those)
        for _ in range(min(self._left, _AT_ONCE)):
            one = those.popleft()
            self._left -= 1
            if one.look():
                those.append(one)
        self._is_set = bool(those)
        if those:
            self._engine.call_later(0 if self._left else self._every, self._look)
