"""A connection that a child of the process model opens: only its own client waits meanwhile.

Known weakness: a name is looked up by a plain getaddrinfo(3), which no deadline and no stop can
interrupt: it takes as long as the resolver lets it. Nor is there an earlier answer to stand in for
it: what a child has been told ends with the child.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from typing import Any, Protocol

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import ConnectTimeout
from muxcore.limits import Limits
from muxcore.parts import connecting, dispatch, sockets
from muxcore.parts.timers import LONGEST_WAIT
from muxcore.protocol import AnyProtocol, Service, Verb


class Opens(Protocol):
    """What a connection that is opened sees of its child."""

    def add(
        self, sock: socket.socket, peername: Any, protocol: AnyProtocol, verb: Verb | None
    ) -> object:
        """Serve one more connection."""

    def failed(self, exc: BaseException) -> None:
        """Count a connection that did not come about."""

    @property
    def limits(self) -> Limits: ...


class Outgoing:
    """What ``connect()`` returns; the child opens it once the callback that asked has returned.

    Args:
        child: what it is opened for.
        where: the address.
        service: its protocol gets ``connection_made``, or ``connection_lost(exc)`` alone.
        timeout: seconds for all of it.
    """

    def __init__(self, child: Opens, where: Address, service: Service, timeout: float) -> None:
        dispatch.check_service(service)
        self._child = child
        self._where = where
        self._service: Service | None = service  # None: it was cancelled
        self._timeout = timeout
        self._sock: socket.socket | None = None
        self._error: OSError | None = None  # why it must not be opened

    def cancel(self) -> None:
        """Drop it: its service hears nothing. Harmless after an outcome."""
        self._service = None

    def fail(self, exc: OSError) -> None:
        """Let it fail. For a signal handler too, so it tells nobody yet."""
        self._error = exc
        if self._sock is not None:
            with contextlib.suppress(OSError):  # it has not begun, or is closed again
                self._sock.shutdown(socket.SHUT_RDWR)  # ends the wait in poll(2)

    def open(self) -> bool:
        """Connect, and tell the protocol how that went; return whether there is a connection."""
        if self._service is None:
            return False
        try:
            sock, peername = self._connected()
        except OSError as exc:
            self._child.failed(exc)
            connecting.tell_failed(self._service, exc)
            return False
        made = dispatch.made_for(self._service, lambda protocol: protocol, self._child.failed)
        if made is None:
            sock.close()
            return False
        self._child.add(sock, peername, *made)
        return True

    def _connected(self) -> tuple[socket.socket, Any]:
        """Try one address of the name after the other."""
        deadline = time.monotonic() + self._timeout
        errors: list[tuple[int, str]] = []
        found = [] if self._error is not None else addresses.resolve(self._where)
        for number, (family, sockaddr) in enumerate(found):
            left = max(0.0, deadline - time.monotonic())
            self._sock = sock = socket.socket(family, socket.SOCK_STREAM)
            # those that are silent leave the others their share
            error = self._connect(sock, sockaddr, left / (len(found) - number))
            if not error and self._error is None:
                return sock, sockaddr
            sock.close()
            errors.append((error, addresses.from_sockaddr(family, sockaddr)))
            if self._error is not None:
                break
        if self._error is not None:
            raise self._error
        if time.monotonic() >= deadline:
            raise ConnectTimeout(str(self._where), self._timeout)
        raise connecting.failure(self._where, errors)

    def _connect(self, sock: socket.socket, sockaddr: Any, seconds: float) -> int:
        """Connect within so many seconds; return the errno, 0 if it is connected."""
        try:
            sockets.prepare(sock)
            sockets.watch_peers(sock, self._child.limits)
            error = sock.connect_ex(sockaddr)
        except OSError as exc:
            return exc.errno or errno.EIO
        if self._error is not None:  # fail() came first
            return error
        deadline = time.monotonic() + seconds
        while error == errno.EAGAIN and sock.family == socket.AF_UNIX:  # its backlog is full
            if time.monotonic() >= deadline or self._error is not None:
                return errno.ETIMEDOUT
            time.sleep(connecting.FULL_AGAIN)
            error = sock.connect_ex(sockaddr)
        if error != errno.EINPROGRESS:
            return error
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT)
        if not poll.poll(min(seconds, LONGEST_WAIT) * 1000):
            return errno.ETIMEDOUT
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
