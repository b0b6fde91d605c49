"""One outgoing connection on its way in an asyncio loop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore import accepting


class Attempt(asyncio.Protocol):
    """A socket that is being connected, and is done once asyncio has a transport for it.

    Not before: in the turns between the two a ``cancel()`` must still find it.

    Args:
        engine: the adapter.
        family: of the address.
        sockaddr: the address.
        done: called in a later turn, once, with this attempt and an errno, 0 if it is connected;
            not after ``cancel()``.

    Attributes:
        inner: asyncio's transport; its protocol is to be set in ``done``.
        peername: the address.
    """

    def __init__(
        self, engine: Any, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> None:
        self._loop: asyncio.AbstractEventLoop = engine.loop
        self._done = done
        self._cancelled = False
        self.peername = sockaddr
        self.inner: Any = None
        self._sock: socket.socket | None = None  # until it is the transport's
        self.task = self._loop.create_task(self._connect(family, sockaddr))

    def cancel(self) -> None:
        """Close it; nobody is told."""
        self._cancelled = True
        self.task.cancel()
        self._close()

    async def _connect(self, family: int, sockaddr: Any) -> None:
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM)
            accepting.prepare(self._sock)
            if family == socket.AF_UNIX:  # never in progress: asyncio takes its EAGAIN for that
                self._sock.connect(sockaddr)
            else:
                await self._loop.sock_connect(self._sock, sockaddr)
            sock, self._sock = self._sock, None
            try:
                await self._loop.connect_accepted_socket(lambda: self, sock)
            except BaseException:
                sock.close()
                raise
        except OSError as exc:
            self._close()
            self._done(self, exc.errno or errno.EIO)

    def connection_made(self, inner: Any) -> None:
        if self._cancelled:
            inner.abort()
            return
        self.inner = inner
        self._done(self, 0)

    def _close(self) -> None:
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
