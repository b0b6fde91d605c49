"""The loop that select and epoll share: one thread, and a poller that says who is ready.

A turn has four stages, in this order, so that what a callback does holds for every later stage:

1. wait for events, no longer than the next timer allows, and not at all if calls are queued;
2. events: connections send and receive, listeners accept;
3. timers that are due;
4. calls that were queued, ``connection_lost`` among them: a connection is closed only here, so
   within one turn no descriptor is given to a new connection while an event for the old one may
   still come.

In a fork of the process that made it, an engine closes descriptors and does nothing else.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from muxcore import _forks
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.parts import dispatch, opening
from muxcore.parts.listener import Listener
from muxcore.protocol import Service
from muxcore.pure.attempt import Attempt
from muxcore.pure.lingering import Lingering
from muxcore.pure.poller import READ
from muxcore.pure.stream_transport import StreamTransport
from muxcore.pure.watching_loop import Connection, WatchingLoop
from muxcore.stats import Stats


class ReadinessEngine(WatchingLoop):
    """Everything of the select and epoll engines but who is ready."""

    transport_class: type[StreamTransport] = StreamTransport

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        # in the order they were opened: outgoing?
        self._transports: dict[StreamTransport, bool] = {}
        self._listeners: list[Listener] = []
        self._lingering: dict[Lingering, bool] = {}  # outgoing?

    def settle(self) -> None:
        """Stay the first process's, as what the kernel has of it does: ``turn`` refuses a fork."""

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        reason = self.refuse(sock.fileno())
        if reason is not None:
            opening.close_listener(sock)
            raise BindError(errno.EMFILE, reason)
        self._listeners.append(Listener(self, sock, service))

    def listen_also(self, sock: socket.socket, service: Service) -> None:
        if self.draining or self.ending:
            sock.close()
            return
        self.listen(sock, service)
        self._listeners[-1].resume()

    def open(
        self, sock: socket.socket, service: Service, peername: Any, *, outgoing: bool = False
    ) -> None:
        fd = sock.fileno()
        reason = self.refuse(fd) if fd >= 0 else "something in this process closed its descriptor"
        if reason is not None:
            dispatch.logger.warning("connection from %s is closed: %s", peername, reason)
            self.errors["refused"] += 1
            sock.close()
            return
        made = self.transport_for(service, lambda p: self.transport_class(self, sock, p, peername))
        if made is None:
            sock.close()
            return
        transport, verb = made
        self.claim(transport, fd)
        self._transports[transport] = outgoing
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        transport.opened(verb)

    # -- outgoing connections

    def attempt(
        self, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> Attempt:
        return Attempt(self, family, sockaddr, done)

    def outgoing(self) -> int:
        return self.counters.outgoing + len(self.connecting)

    # -- its life

    def begin(self) -> None:
        for listener in self._listeners:
            listener.resume()

    def is_over(self) -> bool:
        if not (self.ending or self.retiring):
            return False
        self._finish_drain()
        ends = self.ending or not self.draining
        return ends and not self._transports and not self._lingering

    def stats(self) -> Stats:
        stats = self.counters.snapshot()
        stats.outgoing = self.outgoing()
        return stats

    def close(self) -> None:
        """End without ceremony: every descriptor is closed, whatever state it is in."""
        if self._closed:
            return
        self._closed = self._calls.closed = True  # an adopt() from now on is refused
        if self.is_copy():
            self.abandon()
            return
        raised: list[BaseException] = []

        def surely(call: Callable[..., object], *args: Any) -> None:
            """Make a call; what it raises may not keep the others from hearing of the end."""
            try:
                call(*args)
            except BaseException as exc:
                raised.append(exc)

        surely(self.close_listeners)
        surely(self.end_connecting)
        for transport in self.open_transports():
            surely(transport.abort)
        waiting = len(self._calls)  # those that go on queueing themselves do not hold up the end
        while waiting or self._transports:  # a connection_lost may have aborted others
            if not self._calls:  # an interrupt came between an end and the call that tells of it
                self._calls.extend((self._lost, (each, None)) for each in self._transports)
            call, args = self._calls.popleft()
            surely(dispatch.run_call, call, args)
            waiting = max(0, waiting - 1)
        for lingering in list(self._lingering):
            lingering.end()
        self.timers.clear()
        self._poller.close()
        self._waker.close()
        self.owner = None
        if raised:
            raise raised[0]

    def abandon(self) -> None:
        for transport in self.open_transports():  # those that wait for connection_lost
            transport.abandon()
        for listener in self._listeners:
            listener.abandon()
        super().abandon()

    # -- one turn

    def turn(self, wait: bool = True) -> None:
        if _forks.current is not self.process:
            _forks.refuse()
        handlers = self._handlers
        timeout = 0.0 if self._calls or not wait else self.timers.delay()
        for fd, events in self._poller.wait(timeout):
            handler = handlers.get(fd)
            if handler is not None:  # None: an earlier callback of this turn ended it
                handler.on_event(events)
        self.timers.run_due()
        self._calls.run()
        if self._stop_asked:
            self._wind_down()

    def clients(self) -> int:
        return self.counters.open

    def is_client(self, transport: Any) -> bool:
        return not self._transports.get(transport, True)

    def close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def open_transports(self) -> list[StreamTransport]:
        return list(self._transports)

    def _cut_short(self) -> None:
        super()._cut_short()
        for lingering in list(self._lingering):
            self._clean = self._clean and lingering.is_acknowledged()
            lingering.end()

    # -- for listeners and connections

    def watch_listener(self, listener: Listener, fd: int) -> None:
        self.watch(listener, fd, READ)

    def forget_listener(self, listener: Listener, fd: int) -> None:
        self.forget(listener, fd)

    def release(self, transport: Connection, exc: BaseException | None) -> None:
        # it stays a handler until it is closed: whoever claims the number till then disowns it
        if self._handlers.get(transport.fd) is transport and not self._poller.forget(transport.fd):
            transport.disowned()
        if exc is not None:
            self.errors[type(exc).__name__] += 1
        self._calls.append((self._lost, (transport, exc)))

    def _lost(self, transport: StreamTransport, exc: BaseException | None) -> None:
        if transport not in self._transports:
            return
        try:
            transport.lost(exc)
        finally:
            outgoing = self._transports.pop(transport)
            if self._handlers.get(transport.fd) is transport:
                del self._handlers[transport.fd]
            sock = transport.to_linger()
            if sock is None:
                self._gone(outgoing)
            else:
                lingering = Lingering(self, sock, self._lingered)
                self._lingering[lingering] = outgoing
                lingering.begin()

    def _lingered(self, lingering: Lingering) -> None:
        self._gone(self._lingering.pop(lingering))

    def _gone(self, outgoing: bool) -> None:
        """A connection's descriptor is closed: there is room for another."""
        if outgoing:
            self.counters.outgoing -= 1
        else:
            self.counters.open -= 1
        for listener in self._listeners:
            listener.make_room()
