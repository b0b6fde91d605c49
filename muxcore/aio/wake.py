"""What a task waits on for a connection: it goes on within the engine's callback that has news.

An ``asyncio.Future`` would have the loop call the task later: a queued call, and for a lone task
another wait of the loop, for each message; both together cost more than all that the task does. To
a task a future is whatever answers as one. This one runs the task's step at once, as a protocol's
callback runs; where another task is at work it goes the usual way, since one runs at a time.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, current_task
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Self


class Wake:
    """One task's wait, again and again: ``await`` it, and ``wake()`` lets the task go on.

    Args:
        loop: the task's.

    Attributes:
        is_awaited: a task waits.
    """

    # a task looks for _asyncio_future_blocking, and for _loop where there is no get_loop()
    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "_step", "_why", "is_awaited")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.is_awaited = False
        self._asyncio_future_blocking = False
        self._loop = loop
        self._step: Callable[[Any], object] | None = None  # the task's, while it waits
        self._context: Context
        self._why: asyncio.CancelledError | None = None  # it is cancelled

    def __await__(self) -> Generator[Self, None, None]:
        self._asyncio_future_blocking = self.is_awaited = True
        try:
            yield self
        finally:
            self.is_awaited = False
            self._step = None

    def wake(self) -> None:
        """Let the task go on, if one waits."""
        step = self._step
        if step is not None:
            self._step = None
            if current_task(self._loop) is None:
                self._context.run(step, self)
            else:
                self._loop.call_soon(step, self, context=self._context)

    # -- what a task asks of a future

    def add_done_callback(self, step: Callable[[Any], object], *, context: Context) -> None:
        self._step = step
        self._context = context

    def cancel(self, msg: Any = None) -> bool:
        step = self._step
        if step is None:
            return False  # it is woken already: the task itself sees to it
        self._step = None
        self._why = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(step, self, context=self._context)
        return True

    def result(self) -> None:
        if self._why is not None:
            why, self._why = self._why, None
            raise why
