"""What ``get_extra_info("socket")`` returns: a socket that its borrower cannot close."""

from __future__ import annotations

import os
import socket
from typing import Any


class TransportSocket:
    """A connection's socket for reading its names and setting its options; it cannot be closed.

    It stays non-blocking: as asyncio's, it takes a time-out of 0 and no other.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __repr__(self) -> str:
        return f"<TransportSocket fd={self.fileno()}>"

    @property
    def family(self) -> int:
        return self._sock.family

    @property
    def type(self) -> int:
        return self._sock.type

    @property
    def proto(self) -> int:
        return self._sock.proto

    def fileno(self) -> int:
        return self._sock.fileno()

    def dup(self) -> socket.socket:
        """Return a socket of the caller's own, which the caller closes; non-blocking."""
        fd = os.dup(self.fileno())
        try:
            own = socket.socket(fileno=fd)
        except BaseException:
            os.close(fd)
            raise
        own.settimeout(0)
        return own

    def get_inheritable(self) -> bool:
        return os.get_inheritable(self.fileno())

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, value: float | None) -> None:
        if value != 0:
            raise ValueError(f"settimeout({value!r}): only 0 is allowed, the engine must not wait")

    def setblocking(self, flag: bool) -> None:
        if flag:
            raise ValueError("setblocking(True): the engine must not wait")

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def getsockopt(self, *args: Any) -> Any:
        return self._sock.getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        self._sock.setsockopt(*args)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)
