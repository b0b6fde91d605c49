"""One connect(2) on its way in the readiness loop: when the socket is writable, it is decided."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore.parts import sockets
from muxcore.protocol import Service
from muxcore.pure.poller import WRITE
from muxcore.pure.watching_loop import WatchingLoop

_BEGUN = frozenset({0, errno.EINPROGRESS, errno.EINTR})  # connect(2): it goes on in the background


class Attempt:
    """A socket that is being connected.

    Args:
        engine: the readiness engine.
        family: of the address.
        sockaddr: the address.
        done: called in a later turn, once, with this attempt and an errno, 0 if it is connected;
            not after ``cancel()``.
    """

    __slots__ = ("_done", "_engine", "_fd", "peername", "sock")

    def __init__(
        self,
        engine: WatchingLoop,
        family: int,
        sockaddr: Any,
        done: Callable[[Attempt, int], object],
    ) -> None:
        self._engine = engine
        self._done: Callable[[Attempt, int], object] | None = done
        self.peername = sockaddr
        self.sock: socket.socket | None = None
        try:
            error = self._begin(family, sockaddr)
        except OSError as exc:
            error = exc.errno or errno.EIO
        if error:
            engine.call_soon(self._told, error)

    def _begin(self, family: int, sockaddr: Any) -> int:
        self.sock = sock = socket.socket(family, socket.SOCK_STREAM)
        self._fd = sock.fileno()
        sockets.prepare(sock)
        sockets.watch_peers(sock, self._engine.limits)
        if self._engine.refuse(self._fd):
            return errno.EMFILE
        error = sock.connect_ex(sockaddr)
        if error not in _BEGUN:
            return error
        self._engine.watch(self, self._fd, WRITE)
        return 0

    def open(self, service: Service) -> None:
        """Serve it: it is connected."""
        if self.sock is not None:
            self._engine.open(self.sock, service, self.peername, outgoing=True)

    def cancel(self) -> None:
        """Close it; nobody is told."""
        self._done = None
        self._close()

    def on_event(self, events: int) -> None:
        if self.sock is None:
            return
        try:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:
            self.disowned()
            return
        self._engine.forget(self, self._fd)
        self._told(error)

    def disowned(self) -> None:
        """Fail: somebody else closed the descriptor, whose number may be another's by now."""
        if self.sock is not None:
            self._engine.forget(self, self._fd)
            self.sock.detach()
            self.sock = None
            self._engine.call_soon(self._told, errno.EBADF)

    def abandon(self) -> None:
        """Close the descriptor, in a fork of the process that connects."""
        if self.sock is not None:
            self.sock.close()

    def _told(self, error: int) -> None:
        done, self._done = self._done, None
        if error:
            self._close()
        if done is not None:
            done(self, error)

    def _close(self) -> None:
        """Close it at this turn's end: until then its descriptor may have an event to come."""
        if self.sock is not None:
            self._engine.forget(self, self._fd)
            self._engine.call_soon(self.sock.close)
            self.sock = None
