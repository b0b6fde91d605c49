"""What ``create_server`` returns: asyncio's server, of which an engine accepts and serves.

The loop has opened its listeners, with its own rules, and closes them. The engine has duplicates of
them, and is this server's alone: it ends with the last client after ``close()``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from muxcore.aio.home import new_guest, stay
from muxcore.hosts.asyncio_host import AsyncioHost
from muxcore.limits import Limits
from muxcore.parts.turning import TurningLoop
from muxcore.protocol import Service

# Until 3.12 wait_closed() returned at once after close(), whoever was still there; programs written
# for that end their clients after it.
_WAITS = sys.version_info >= (3, 12)


class AsyncioServer(asyncio.AbstractServer):
    """A server with the methods, and the meaning, of ``asyncio.Server``.

    Args:
        listening: the running loop's own server, which has not begun: it has the listeners.
        service: the protocol factory.
        backlog: of listen(2).
        limits: the caps.
    """

    def __init__(
        self,
        listening: asyncio.Server,
        service: Service,
        backlog: int,
        limits: Limits,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._service = service
        self._backlog = backlog
        self._limits = limits
        self._engine: TurningLoop | None = None  # once it has begun
        self._life: AsyncGenerator[None, None] | None = None
        self._closed = False
        self._over = asyncio.Event()  # nobody is left
        self._forever: asyncio.Future[None] | None = None  # who awaits serve_forever()

    def __repr__(self) -> str:
        return f"<AsyncioServer sockets={self.sockets!r}>"

    # -- what it is

    @property
    def sockets(self) -> Sequence[Any]:
        """The listeners, as the loop's own server shows them; none after ``close()``."""
        return self._listening.sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._engine is not None and not self._closed

    # -- its life

    async def start_serving(self) -> None:
        """Accept from now on; harmless when it does.

        Protocols are called in a copy of the context that this is called in.

        Raises:
            RuntimeError: it is closed.
            EngineUnavailable, CapabilityMissing: the engine that was chosen cannot be a guest.
            OSError: listen(2) has failed.
        """
        self._refuse_closed()
        if self._engine is not None:
            return
        engine = new_guest(self._limits)
        try:
            for sock in self.sockets:
                twin = socket.socket(fileno=os.dup(sock.fileno()))
                twin.setblocking(False)
                engine.listen(twin, self._service)
                twin.listen(self._backlog)
            self._life = stay(engine, AsyncioHost(), self._ended)
        except BaseException:
            engine.close()
            raise
        self._engine = engine

    async def serve_forever(self) -> None:
        """Serve until this is cancelled, or ``close()`` is called, which cancels it."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Accept nobody any more; who is connected goes on. Harmless a second time."""
        if self._closed:
            return
        if self._engine is not None:
            self._engine.retire()
        self._closed = True
        self._listening.close()
        if self._engine is None:
            self._over.set()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()

    def close_clients(self) -> None:
        """Close every connection, which sends what is queued first."""
        for transport in self._transports():
            transport.close()

    def abort_clients(self) -> None:
        """Close every connection at once, and drop what is queued."""
        for transport in self._transports():
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until it is closed, and its last connection has ended.

        Before Python 3.12 it does not wait once ``close()`` was called, as asyncio's did not.
        """
        if _WAITS or not self._closed:
            await self._over.wait()

    # -- small things

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")

    def _transports(self) -> Sequence[Any]:
        return () if self._engine is None else self._engine.open_transports()

    def _ended(self, exc: BaseException | None) -> None:
        """The engine has: after ``close()``, with the loop, or by an error."""
        if isinstance(exc, SystemExit | KeyboardInterrupt):
            # later: a main task that were to end in this turn would stop the loop once more
            self._loop.call_soon(self._over.set)
            raise exc  # the loop lets it through
        self._over.set()
        self.close()
        if exc is not None:
            text = "the engine of a server has ended by an error: nobody is served any more"
            self._loop.call_exception_handler({"message": text, "exception": exc, "server": self})
