"""What Python may see of a socket that C owns: the descriptor on loan, and the peer's address."""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from muxcore.parts.transport_socket import TransportSocket


class LentSocket(TransportSocket):
    """A connection's socket as long as the connection lives; C owns the descriptor.

    Args:
        fd: the descriptor.
        over: whether the connection has ended.
    """

    __slots__ = ("_fd", "_over")

    def __init__(self, fd: int, over: Callable[[], bool]) -> None:
        self._fd = fd
        self._over = over

    def fileno(self) -> int:
        return -1 if self._over() else self._fd

    @property
    def _sock(self) -> socket.socket:  # type: ignore[override]
        fd = self.fileno()
        if fd < 0:
            raise OSError(errno.EBADF, "the connection has ended")
        return Borrowed(fileno=fd)


class Borrowed(socket.socket):
    """A socket object that forgets its descriptor instead of closing it."""

    def __del__(self) -> None:
        self.detach()


class RawAddress(bytes):
    """A socket address as the kernel writes it: ``struct sockaddr``; empty: it is not known."""

    __slots__ = ()

    @classmethod
    @functools.lru_cache(1024)  # a relay connects to the same few addresses all the time
    def encoded(cls, family: int, sockaddr: Any) -> RawAddress:
        """Return what ``connect(2)`` takes for an address as Python writes it."""
        head = struct.pack("=H", family)
        if family == socket.AF_UNIX:
            path = sockaddr if isinstance(sockaddr, bytes) else os.fsencode(sockaddr)
            return cls(head + path + (b"" if path.startswith(b"\0") else b"\0"))
        host = socket.inet_pton(family, sockaddr[0].partition("%")[0])
        port = struct.pack("!H", sockaddr[1])
        if family == socket.AF_INET:
            return cls(head + port + host + bytes(8))
        return cls(
            head + port + struct.pack("!I", sockaddr[2]) + host + struct.pack("=I", sockaddr[3])
        )

    def decoded(self) -> Any:
        """Return what Python's ``getpeername()`` would; None where the address is not known."""
        if not self:
            return None
        family = int.from_bytes(self[:2], "little" if _LITTLE else "big")
        if family == socket.AF_INET:
            return socket.inet_ntop(family, self[4:8]), *struct.unpack_from("!H", self, 2)
        if family == socket.AF_INET6:
            port, flow = struct.unpack_from("!HI", self, 2)
            (scope,) = struct.unpack_from("=I", self, 24)
            host = socket.inet_ntop(family, self[8:24])
            return host + _zone(scope), port, flow, scope
        path = self[2:]
        if path.startswith(b"\0"):
            return bytes(path)  # abstract: its name may hold zeros
        return os.fsdecode(path.partition(b"\0")[0])


_LITTLE = struct.pack("=H", 1)[0] == 1


def _zone(scope: int) -> str:
    """Return the zone of a link-local address, as getnameinfo(3) writes it."""
    if not scope:
        return ""
    try:
        return f"%{socket.if_indextoname(scope)}"
    except OSError:  # the interface has gone
        return f"%{scope}"
