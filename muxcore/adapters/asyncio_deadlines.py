"""The deadlines of one connection of the adapters, kept by looking now and then.

asyncio does not tell when a byte was sent, so what has moved is looked at a few times in the length
of a deadline. None of them ends a connection before the loop has had the chance to deliver what
waits in the kernel: after a stall, of a callback or of the machine, that comes first.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable
from typing import Any

from muxcore.adapters.asyncio_loop import GuardedLoop
from muxcore.errors import CloseTimeout, HalfCloseTimeout, IdleTimeout

_LOOKS = 4  # in the length of one deadline


class Deadlines(abc.ABC):
    """``Limits.idle_timeout``, ``half_close_timeout`` and ``close_timeout`` of one connection.

    Args:
        engine: the adapter; its ``limits``, ``loop`` and ``after_io`` are used.
    """

    def __init__(self, engine: GuardedLoop) -> None:
        self._engine = engine
        self._peer: object = None  # under relay(): the other side, or what brings it
        self._lost = False
        self._moved: tuple[tuple[int, ...], float] = ((), 0.0)  # what was counted, and when
        self._waited: tuple[int, float] = (0, 0.0)  # bytes queued at a close, and since when
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @abc.abstractmethod
    def _counted(self) -> tuple[int, int]:
        """Return (bytes received, bytes sent)."""

    @abc.abstractmethod
    def _queued(self) -> int:
        """Return how many bytes wait to be sent."""

    @abc.abstractmethod
    def _fail(self, exc: BaseException | None) -> None:
        """Close now, and have ``connection_lost`` receive ``exc``."""

    def _watch_idle(self) -> None:
        if self._engine.limits.idle_timeout is not None:
            self._moved = ((), self._engine.loop.time())
            self._look_idle()

    def _watch_half_close(self) -> None:
        limit = self._engine.limits.half_close_timeout
        if limit is not None:
            exc = HalfCloseTimeout(limit)
            self._set("half", limit, self._engine.after_io, self._fail, exc)

    def _watch_close(self) -> None:
        if self._engine.limits.close_timeout is not None:
            self._waited = (self._queued(), self._engine.loop.time())
            self._look_closing()

    def _stop_watching(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _look_idle(self, sure: bool = False) -> None:
        """Look whether a byte has moved; ``sure``: what waited in the kernel was delivered."""
        limit, now = self._engine.limits.idle_timeout, self._engine.loop.time()
        if self._lost or limit is None:
            return
        counted: tuple[int, ...] = self._counted()
        if isinstance(self._peer, Deadlines):  # a relay has one deadline
            counted += self._peer._counted()
        if counted != self._moved[0]:
            self._moved = (counted, now)
        if now - self._moved[1] < limit:
            self._set("idle", limit / _LOOKS, self._look_idle)
        elif sure:
            self._fail(IdleTimeout(limit))
        else:
            self._engine.after_io(self._look_idle, True)

    def _look_closing(self, sure: bool = False) -> None:
        """Look whether the peer has taken some of what was queued at the close."""
        limit, now = self._engine.limits.close_timeout, self._engine.loop.time()
        if self._lost or limit is None:
            return
        queued = self._queued()
        if queued != self._waited[0]:
            self._waited = (queued, now)
        if now - self._waited[1] < limit:
            self._set("close", limit / _LOOKS, self._look_closing)
        elif sure:
            self._fail(CloseTimeout(limit))
        else:
            self._engine.after_io(self._look_closing, True)

    def _set(self, name: str, delay: float, call: Callable[..., object], *args: Any) -> None:
        self._timers[name] = self._engine.loop.call_later(delay, call, *args)
