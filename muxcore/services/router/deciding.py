"""Decisions that take time: each is a task, in the server's own loop where it has one of asyncio's.

Elsewhere there is a thread with a loop, from the first such decision to the server's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from muxcore.protocol import ServerCalls

_Outcome: TypeAlias = tuple[Any, BaseException | None]


class Decisions(Protocol):
    """Where decisions are awaited."""

    def begin(
        self,
        coming: Awaitable[Any],
        done: Callable[[Any], object],
        failed: Callable[[BaseException], object],
    ) -> Decision:
        """Await one; in the engine's thread, where ``done`` or ``failed`` is called later."""


class Decision:
    """One that is awaited.

    Args:
        done, failed: one of them is called with what came of it, unless it is cancelled.
    """

    def __init__(
        self, done: Callable[[Any], object], failed: Callable[[BaseException], object]
    ) -> None:
        self._done: Callable[[Any], object] | None = done
        self._failed = failed
        self.end: Callable[[], object] = _nothing

    def cancel(self) -> None:
        """Let nothing come of it."""
        if self._done is not None:
            self._done = None
            self.end()

    def over(self, result: Any, exc: BaseException | None) -> None:
        """Tell what came of it; in the engine's thread."""
        done, self._done = self._done, None
        if done is None:
            return
        try:
            if exc is not None:
                raise exc
            done(result)
        except BaseException as raised:
            self._failed(raised)


class InLoop:
    """Decisions in the loop that runs here.

    Args:
        loop: it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(
        self,
        coming: Awaitable[Any],
        done: Callable[[Any], object],
        failed: Callable[[BaseException], object],
    ) -> Decision:
        decision = Decision(done, failed)
        task = self._loop.create_task(_outcome_of(coming))
        task.add_done_callback(lambda task: decision.over(*_outcome(task)))
        decision.end = task.cancel
        return decision


class InThread:
    """Decisions in a loop of their own, for a server that has none.

    Args:
        server: where they are needed.
    """

    def __init__(self, server: ServerCalls) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, name="muxcore-router-decisions", daemon=True
        )
        self._thread.start()

    def begin(
        self,
        coming: Awaitable[Any],
        done: Callable[[Any], object],
        failed: Callable[[BaseException], object],
    ) -> Decision:
        decision = Decision(done, failed)

        def over(future: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended, or its queue is full:
                # then the time-out of the decision ends the client
                self._server.call_soon_threadsafe(decision.over, *_outcome(future))

        future = asyncio.run_coroutine_threadsafe(_outcome_of(coming), self._loop)
        future.add_done_callback(over)
        decision.end = future.cancel
        return decision

    def end(self) -> None:
        """Cancel what is left, and end the thread; it is not waited for."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # cancels what is left
            runner.get_loop().run_forever()


async def _outcome_of(coming: Awaitable[Any]) -> _Outcome:
    try:
        return await coming, None
    except BaseException as exc:  # one that means the program is raised in the engine's thread
        return None, exc


def _outcome(future: Any) -> _Outcome:
    """Return what came of a task, or of a future, of ``_outcome_of``."""
    if future.cancelled():
        return None, asyncio.CancelledError("the decision was cancelled")
    outcome: _Outcome = future.result()
    return outcome


def _nothing() -> None:
    """There is nothing to end yet."""
