"""The deadlines of one connection of the readiness engines.

A deadline that has passed is kept only after the connection has sent and received what it can:
after a stall, of a callback or of the machine, its bytes may wait in the kernel.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from time import monotonic
from typing import Any

from muxcore.errors import CloseTimeout, HalfCloseTimeout
from muxcore.parts.states import LOST
from muxcore.parts.timers import Timer
from muxcore.parts.transport import BaseTransport
from muxcore.protocol import AnyProtocol
from muxcore.pure.watching_loop import WatchingLoop


class Deadlines(BaseTransport):
    """The contract of one connection, with its deadlines; arguments as of ``BaseTransport``."""

    __slots__ = ("_moved_at", "_taken_at", "_timers")

    _engine: WatchingLoop

    def __init__(self, engine: WatchingLoop, protocol: AnyProtocol, peername: Any) -> None:
        # when a byte last moved: looked at for the idle deadline alone, so kept only where that is
        self._moved_at = monotonic() if engine.clocked else 0.0
        self._taken_at = 0.0  # after close(): when the peer last took something
        self._timers: dict[str, Timer] | None = None  # by what they call
        super().__init__(engine, protocol, peername)

    @abc.abstractmethod
    def go_on(self) -> None:
        """Send and receive what can be, without an event."""

    def _watch_idle(self) -> None:
        """Look again when the deadline would pass if no further byte moved."""
        limit = self._engine.limits.idle_timeout
        if limit is None:
            return
        left = self._idle_in(limit)
        if left <= 0:
            self._serve_both()
            left = self._idle_in(limit)
        if self._state == LOST:
            return
        if left <= 0 and self._waits_for_rate():
            left = limit  # bytes are there, and only a rate keeps them back
        if left <= 0:
            self._idle(limit)
        else:
            self._alarm(left, self._watch_idle)

    def _idle_in(self, limit: float) -> float:
        other = self._partner()._moved_at  # a relay's deadline is the pair's
        return max(self._moved_at, other) + limit - monotonic()

    def _half_closed(self) -> None:
        limit = self._engine.limits.half_close_timeout
        if limit is not None:
            self._alarm(limit, self._half_over)

    def _half_over(self) -> None:
        before = -1
        for _ in range(self._engine.limits.reads_per_turn):  # no flow may put it off for longer
            if self._state == LOST or before == sum(self._counted()):
                break
            before = sum(self._counted())
            self._serve_both()
        self._fail(HalfCloseTimeout(self._engine.limits.half_close_timeout or 0.0))

    def _watch_close(self) -> None:
        """The connection was closed, and has something to send: see that the peer takes it."""
        limit = self._engine.limits.close_timeout
        if limit is not None:
            self._taken_at = monotonic()
            self._alarm(limit, self._close_over)

    def _close_over(self) -> None:
        limit = self._engine.limits.close_timeout or 0.0
        if self._taken_at + limit <= monotonic():
            self.go_on()
        if self._state == LOST:
            return
        left = self._taken_at + limit - monotonic()
        if left <= 0:
            self._fail(CloseTimeout(limit))
        else:
            self._alarm(left, self._close_over)

    def _serve_both(self) -> None:
        partner = self._partner()
        self.go_on()
        if partner is not self:
            partner.go_on()

    def _alarm(self, delay: float, call: Callable[[], object]) -> None:
        if self._timers is None:
            self._timers = {}
        self._timers[call.__name__] = self._engine.alarm(delay, call)

    def _end_deadlines(self) -> None:
        for timer in (self._timers or {}).values():
            timer.cancel()
