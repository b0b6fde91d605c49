"""The far end of outgoing connections: a listener of the test's own, and one that never answers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Self

from muxcore import address as addresses
from muxcore.testing.peer import DEADLINE, SMALL, Peer

_FILLERS = 4  # a backlog of 0 takes one or two connections; what comes then gets no answer


class Upstream:
    """A listener; ``accept()`` returns the next connection as a peer that does what it is told.

    Args:
        narrow: its connections hold little in the kernel.
        where: the address to listen on.
        backlog: of listen(2).
    """

    def __init__(
        self,
        *,
        narrow: bool = False,
        where: str = "127.0.0.1:0",
        backlog: int = socket.SOMAXCONN,
    ) -> None:
        family, sockaddr = addresses.resolve(addresses.parse(where))[0]
        self._listener = socket.socket(family)
        if narrow:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self._listener.bind(sockaddr)
        self._listener.listen(backlog)
        self._listener.settimeout(DEADLINE)
        self.address = addresses.of_socket(self._listener)

    def accept(self) -> Peer:
        """Return the next connection."""
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            raise AssertionError(f"nobody connected within {DEADLINE:g} s") from None
        return Peer(sock)

    def close(self) -> None:
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Silent:
    """An address without an answer: a listener whose backlog is full drops what comes (tcp(7))."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self._fillers = [socket.socket() for _ in range(_FILLERS)]
        for each in self._fillers:
            each.setblocking(False)
            each.connect_ex(self._listener.getsockname())
        self.address = addresses.of_socket(self._listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for each in (*self._fillers, self._listener):
            each.close()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Have an address that refuses: bound, for a free port could be the next server's own."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield addresses.of_socket(sock)
