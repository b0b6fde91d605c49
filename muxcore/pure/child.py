"""What a child of the process model does: it serves its client, and what that connects to.

With one connection it makes plain blocking calls. Once the client's protocol has opened others, it
asks poll(2) which of them has something; a pair under ``relay()`` goes to ``pump``.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from typing import Any

from muxcore import accepting, dispatch
from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import ConnectTimeout
from muxcore.protocol import Service, Verb, verb_of
from muxcore.pure.blocking_transport import BlockingTransport
from muxcore.pure.pump import pump
from muxcore.pure.shared_counters import SharedCounters


class Child:
    """The one process of one client.

    Args:
        engine: the process engine, as this child inherited it.
        counters: shared with the parent.
        slot: this child's slot in them.
    """

    def __init__(self, engine: Any, counters: SharedCounters, slot: int) -> None:
        self._engine = engine
        self.counters = counters
        self.slot = slot
        self._transports: list[BlockingTransport] = []
        self._outgoing: deque[Outgoing] = deque()  # asked for, not begun
        self._stops = 0  # times it was told to end

    def serve(self, sock: socket.socket, peername: Any, protocol: Any, verb: Verb | None) -> None:
        """Serve the client, and what it connects to, until all have ended."""
        self._client = self.add(sock, peername, protocol, verb)
        while self._transports:
            if self._outgoing:
                self._outgoing.popleft().begin()
            else:
                self._turn()
            for transport in [each for each in self._transports if each.is_lost()]:
                self._transports.remove(transport)
                transport.lost()
                if transport is not self._client:
                    self.counters.connected(self.slot, -1)

    def add(
        self, sock: socket.socket, peername: Any, protocol: Any, verb: Verb | None
    ) -> BlockingTransport:
        """Serve one more connection."""
        transport = BlockingTransport(
            self._engine, sock, protocol, peername, self.counters, self.slot
        )
        self._transports.append(transport)
        for _ in range(self._stops):
            transport.stop()
        transport.opened(verb)
        return transport

    def stop(self) -> None:
        """End soon; called by the signal handler, the second time because the first did not do."""
        self._stops += 1
        for outgoing in list(self._outgoing):
            outgoing.abort()
        for transport in self._transports:
            transport.stop()

    def connect(self, where: Address, service: Service, timeout: float) -> Outgoing:
        """Open a connection once the callback that asks for it has returned."""
        outgoing = Outgoing(self, where, service, timeout)
        self._outgoing.append(outgoing)
        return outgoing

    def failed(self, exc: BaseException) -> None:
        self.counters.failed(self.slot, type(exc).__name__)

    # -- one turn

    def _turn(self) -> None:
        for transport in self._transports:
            if transport.peer is not None:
                pump(transport, transport.peer, self._engine.limits)
                return
        ready = [each for each in self._transports if each.wants_data()]
        if not ready:  # nobody is left who could resume one, or write
            for transport in self._transports:
                transport.end()
        elif len(ready) == 1:
            ready[0].receive()
        else:
            for transport in self._readable(ready):
                if transport.wants_data():  # an earlier callback of this turn may have changed it
                    transport.receive()

    def _readable(self, transports: list[BlockingTransport]) -> list[BlockingTransport]:
        idle = self._engine.limits.idle_timeout
        poll = select.poll()
        for transport in transports:
            poll.register(transport.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if idle is None else idle * 1000)}
        if not ready:
            for transport in transports:
                transport._idle(idle)
        return [each for each in transports if each.fileno() in ready]


class Outgoing:
    """A connection that a child's protocol has asked for; ``cancel()`` drops it.

    Only this client waits while it is opened, so connecting simply blocks.
    """

    def __init__(self, child: Child, where: Address, service: Service, timeout: float) -> None:
        self._child = child
        self._where = where
        self._service: Service | None = service  # None: it is over
        self._timeout = timeout

    def cancel(self) -> None:
        self._service = None

    def abort(self) -> None:
        """Let it fail: the server is ending."""
        self._fail(ConnectionAbortedError(errno.ECONNABORTED, "the server is ending"))

    def begin(self) -> None:
        """Connect, or fail, and tell the protocol."""
        if self._service is None:
            return
        try:
            sock, peername = self._connected()
        except OSError as exc:
            self._fail(exc)
            return
        service, self._service = self._service, None
        try:
            protocol = dispatch.make_protocol(service)
        except Exception as exc:
            name = dispatch.describe(service)
            dispatch.logger.error("service %s failed", name, exc_info=exc)
            self._child.failed(exc)
            sock.close()
            return
        self._child.counters.connected(self._child.slot, 1)
        self._child.add(sock, peername, protocol, verb_of(service) or verb_of(protocol))

    def _connected(self) -> tuple[socket.socket, Any]:
        """Try one address of the name after the other."""
        deadline = time.monotonic() + self._timeout
        reasons = []
        error = errno.ETIMEDOUT
        for family, sockaddr in addresses.resolve(self._where):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                accepting.prepare(sock)
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock.connect(sockaddr)
                return sock, sockaddr
            except TimeoutError:
                sock.close()
                raise ConnectTimeout(str(self._where), self._timeout) from None
            except OSError as exc:
                sock.close()
                error = exc.errno or error
                tried = addresses.from_sockaddr(family, sockaddr)
                reasons.append(f"{tried}: {os.strerror(error)}")
        raise OSError(error, f"cannot connect to {self._where}: {'; '.join(reasons)}")

    def _fail(self, exc: BaseException) -> None:
        service, self._service = self._service, None
        if service is None:
            return
        self._child.failed(exc)
        try:
            protocol = dispatch.make_protocol(service)
        except Exception as broken:
            name = dispatch.describe(service)
            dispatch.logger.error("service %s failed after %s", name, exc, exc_info=broken)
            return
        dispatch.run_call(getattr(protocol, "connection_lost", _nobody), (exc,))


def _nobody(exc: BaseException) -> None:
    """Stand in for a ``connection_lost`` that the protocol does not have."""
