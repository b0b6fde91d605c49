"""A server whose handlers run in workers: each has an event loop, as this one's program has.

``WorkersServer`` is what the program sees: the parent runs in a thread of its own, and serves
nobody. ``LoopServer`` is what a worker runs.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self

import muxcore
from muxcore._demands import Where, each_changed
from muxcore.aio.handling import Handler, Handling, is_handler
from muxcore.aio.serving import Client, Handlers, Server
from muxcore.errors import CapabilityMissing
from muxcore.services.wrapping import within
from muxcore.workers.engine import Workers


class Handled:
    """What a worker is told of a handler: as a service, which only the worker has a use for."""

    requires = Handling.requires

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self) -> None:
        raise AssertionError("a parent of workers serves nobody")

    def __repr__(self) -> str:
        return getattr(self.handler, "__qualname__", None) or repr(self.handler)


def _service_of(handler: Any) -> Any:
    """Return what a worker is told of a handler, or a service."""
    return within(handler, lambda each: Handled(each) if is_handler(each) else each)


def _handler_of(service: Any) -> Any:
    """Return what that was, in the worker."""
    return within(service, lambda each: each.handler if isinstance(each, Handled) else each)


class LoopServer:
    """The server of a worker: it runs in an event loop of its own.

    Args:
        where: sockets, with a handler, as a service, or a service for each.
        loop: the module that has the loop's class: "asyncio" or "uvloop".
        options: of ``muxcore.aio.Server``.
    """

    def __init__(self, where: Mapping[Where, Any], *, loop: str, **options: Any) -> None:
        del options["allow_threads"]
        self._in_loop = Server(each_changed(where, _handler_of), **options)
        self._server = self._in_loop._server
        self._engine = self._in_loop._engine
        self._phases = self._server._phases
        self._module = loop
        self._loop: asyncio.AbstractEventLoop
        self.on_drain = self._server.on_drain

    def run(self, on_ready: Callable[[Any], object]) -> int:
        """Serve until the end; return the exit status."""
        factory = importlib.import_module(self._module).new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[Any], object]) -> int:
        self._loop = asyncio.get_running_loop()
        async with self._in_loop as server:
            on_ready(self)
            await server.serve_forever()
        assert server._run is not None
        return 0 if server._run.result() else 1

    # -- for signal handlers

    def request_drain(self, timeout: float | None = None) -> None:
        self._server.request_drain(timeout)

    def request_stop(self) -> None:
        self._loop.call_soon_threadsafe(self._in_loop._asked_to_end, signal.SIGINT)

    def _listen_also(self, sock: socket.socket, which: int) -> None:
        self._server._listen_also(sock, which)

    def reload(self) -> None:
        self._server.reload()

    def reopen_logs(self) -> None:
        self._server.reopen_logs()


class _Parent(muxcore.Server):
    """The server whose engine is workers that each have a loop."""

    def __init__(self, make: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._made_by = make
        super().__init__(*args, **options)

    @property
    def _make(self) -> Callable[..., Any]:
        return self._made_by


class WorkersServer(Server):
    """A handler, or a service, in workers; see ``muxcore.aio.serve(workers=)``."""

    def __init__(
        self,
        handler: Handlers,
        *where: Where,
        keep: int,
        movers: int | None,
        **options: Any,
    ) -> None:
        service = each_changed(handler, _service_of)
        uvloop = type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop"
        name = "uvloop" if uvloop else "asyncio"
        make = functools.partial(LoopServer, keep=keep, movers=movers, loop=name)
        self._server = _Parent(make, service, *where, **options)
        assert isinstance(self._server._engine, Workers)
        self._workers = self._server._engine
        self._over = asyncio.Event()
        self._asked = asyncio.Event()
        self._signals = []

    def connections(self) -> tuple[Client, ...]:
        """Refuse: those of workers are the workers' own.

        Raises:
            CapabilityMissing: always.
        """
        raise CapabilityMissing("connections() is not there with workers: each has its own")

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def ended() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._over.set)

        self._workers.on_end = ended
        try:
            await self._in_thread(self._server.start)
        except asyncio.CancelledError:
            await self._end(at_once=True)
            raise
        return self

    async def drain(self, timeout: float | None = None) -> bool:
        self._server.request_drain(timeout)
        try:
            return await asyncio.to_thread(self._server.drain)
        except asyncio.CancelledError:
            await self._end(at_once=True)
            raise

    async def _end(self, *, at_once: bool) -> None:
        if at_once:
            self._workers.abort()
        await self._in_thread(self._server.stop)

    async def _in_thread(self, call: Callable[[], object]) -> None:
        """Wait for a call that blocks; a cancel aborts the workers, so that it soon returns."""
        done = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            self._workers.abort()
            await asyncio.wait((done,))
            raise

    def _wait_until_over(self) -> Coroutine[Any, Any, object]:
        return self._over.wait()

    def _cut_short(self) -> None:
        self._workers.abort()
