"""asyncio as a host loop, or whatever speaks as it does: uvloop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

from muxcore.abc import Engine
from muxcore.protocol import Handle


class AsyncioHost:
    """The running loop.

    The guest's callbacks run in a copy of the context that this is made in. A loop would take that
    of whoever asks, and a turn that one connection's task asks for serves all of them.

    Raises:
        RuntimeError: no loop runs.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    # -- for the guest

    def watch(self, fd: int, call: Callable[[], object]) -> None:
        # add_reader has no argument for it; a copy, since this may run in it already
        self._context.copy().run(self._loop.add_reader, fd, call)

    def forget(self, fd: int) -> None:
        if not self._loop.is_closed():  # that has let go of everything
            self._loop.remove_reader(fd)

    def soon(self, call: Callable[[], object]) -> object:
        return self._loop.call_soon(call, context=self._context)

    def later(self, delay: float, call: Callable[[], object]) -> Handle:
        return self._loop.call_later(delay, call, context=self._context)

    # -- for who awaits its end

    async def serve(self, engine: Engine) -> None:
        over = asyncio.Event()
        failures: list[BaseException] = []

        def ended(exc: BaseException | None) -> None:
            if exc is not None:
                failures.append(exc)
            over.set()

        engine.be_guest(self, ended)
        cancelled: asyncio.CancelledError | None = None
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError as exc:
                if cancelled is None:
                    engine.stop()
                else:
                    engine.abort()
                cancelled = exc
        if failures:
            raise failures[0]
        if cancelled is not None:
            raise cancelled
