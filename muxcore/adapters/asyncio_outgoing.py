"""One outgoing connection on its way in an asyncio loop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore import accepting, dispatch

_FULL_BACKLOG_PAUSE = 0.05  # s; the attempt's time-out ends the waiting


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
        sock: the socket, once there is one; that of ``inner`` if that is there.
    """

    def __init__(
        self, engine: Any, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop = engine.loop
        self._done = done
        self._cancelled = False
        self.peername = sockaddr
        self.inner: Any = None
        self.sock: socket.socket | None = None
        self._handed_over = False  # it is asyncio's
        self.task = self._loop.create_task(self._connect(family, sockaddr))

    def cancel(self) -> None:
        """Close it; nobody is told. One that asyncio has already ends in ``connection_made``."""
        self._cancelled = True
        self.task.cancel()
        self._close()

    async def _connect(self, family: int, sockaddr: Any) -> None:
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            accepting.prepare(self.sock)
            if family == socket.AF_UNIX:
                await _connect_unix(self.sock, sockaddr)
            else:
                await self._loop.sock_connect(self.sock, sockaddr)
            self._handed_over = True
            await self._loop.connect_accepted_socket(lambda: self, self.sock)
        except OSError as exc:
            self._failed(exc.errno or errno.EIO)
        except Exception as exc:  # no such port, a path with a NUL in it
            dispatch.logger.error("cannot connect to %r", sockaddr, exc_info=exc)
            self._failed(errno.EINVAL)
        except BaseException:
            self._give_up()
            raise

    def connection_made(self, inner: Any) -> None:
        if self._cancelled:
            inner.abort()
            return
        self.inner = inner
        self._engine.guard(self._done, self, 0)

    def _failed(self, error: int) -> None:
        self._give_up()
        if not self._cancelled and self.inner is None:
            self._engine.guard(self._done, self, error)

    def _give_up(self) -> None:
        """Close what asyncio did not take; its transport closes itself, if there is one."""
        if self._handed_over and self.inner is None and self.sock is not None:
            self.sock.close()
        self._close()

    def _close(self) -> None:
        if self.sock is not None and not self._handed_over:
            if self.sock.fileno() >= 0:
                self._loop.remove_writer(self.sock.fileno())
            self.sock.close()


async def _connect_unix(sock: socket.socket, path: Any) -> None:
    """Connect, however long the backlog is full: connect(2) says EAGAIN, and no event tells."""
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_FULL_BACKLOG_PAUSE)
        else:
            return
