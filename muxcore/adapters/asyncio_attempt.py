"""One outgoing connection on its way in an asyncio loop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore.adapters.asyncio_loop import GuardedLoop
from muxcore.parts import dispatch, sockets
from muxcore.protocol import Service


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
        inner: asyncio's transport; its protocol is set by ``open``.
        peername: the address.
        sock: the socket, once there is one; that of ``inner`` if that is there.
    """

    def __init__(
        self,
        engine: GuardedLoop,
        family: int,
        sockaddr: Any,
        done: Callable[[Attempt, int], object],
    ) -> None:
        self._engine = engine
        self._loop = engine.loop
        self._done = done
        self._cancelled = False
        self._handed_over = False  # the socket is asyncio's
        self.peername = sockaddr
        self.inner: asyncio.Transport | None = None
        self.sock: socket.socket | None = None
        error = self._begin(family, sockaddr)  # now: the time that it may take is running
        self.task = self._loop.create_task(self._connect(error))

    def open(self, service: Service) -> None:
        """Serve it: it is connected."""
        if self.inner is not None and self.sock is not None:
            self._engine.open_connected(self.inner, self.sock, service, self.peername)

    def cancel(self) -> None:
        """Close it; nobody is told. One that asyncio has already ends in ``connection_made``."""
        self._cancelled = True
        self.task.cancel()
        self._close()

    def _begin(self, family: int, sockaddr: Any) -> int:
        """Open the socket and call connect(2); return what that said."""
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.prepare(self.sock)
            sockets.watch_peers(self.sock, self._engine.limits)
            return self.sock.connect_ex(sockaddr)
        except OSError as exc:
            return exc.errno or errno.EIO
        except (OverflowError, TypeError, ValueError) as exc:  # no such port, a NUL in a path
            dispatch.logger.error("cannot connect to %r: %s", sockaddr, exc)
            return errno.EINVAL

    async def _connect(self, error: int) -> None:
        try:
            sock = self.sock
            if sock is not None and error == errno.EINPROGRESS:
                error = await self._connected(sock)
            if error or sock is None:
                self._failed(error)
                return
            self._handed_over = True
            await self._loop.connect_accepted_socket(lambda: self, sock)
        except OSError as exc:
            self._failed(exc.errno or errno.EIO)
        except BaseException:
            self._give_up()
            raise

    async def _connected(self, sock: socket.socket) -> int:
        decided: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(sock.fileno(), _set, decided)
        try:
            await decided
        finally:
            self._stop_waiting()
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

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
            self._stop_waiting()
            self.sock.close()

    def _stop_waiting(self) -> None:
        if self.sock is not None and self.sock.fileno() >= 0:  # else the number may be another's
            self._loop.remove_writer(self.sock.fileno())


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
