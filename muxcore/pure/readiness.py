"""The loop that select and epoll share: one thread, and a poller that says who is ready.

A turn has five stages, in this order, so that what a callback does holds for every later stage:

1. wait for events, no longer than the next timer allows, and not at all if work is left over;
2. events: connections send and receive, listeners accept;
3. those whose turn's budget ran out, or whose edge was held back, go on;
4. timers that are due;
5. calls that were queued, ``connection_lost`` among them: a connection is closed only here, so
   within one turn no descriptor is given to a new connection while an event for the old one may
   still come.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar

from muxcore import accepting, dispatch
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.listening import Listener
from muxcore.loop_engine import LoopEngine
from muxcore.protocol import Service, verb_of
from muxcore.pure.outgoing import Attempt
from muxcore.pure.poller import READ, WRITE, Poller
from muxcore.pure.stream_transport import StreamTransport
from muxcore.stats import Stats


class ReadinessEngine(LoopEngine):
    """Everything of the select and epoll engines but who is ready."""

    poller: ClassVar[type[Poller]]

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.now = time.monotonic()  # of this turn: one look at the clock serves all its events
        self.counters = Stats(errors=self.errors)
        self._poller = type(self).poller(trigger)
        self.edge = self._poller.edge
        # under a level trigger the next wait reports what is left, so one receive a turn is fairest
        self.reads_per_turn = self.limits.reads_per_turn if self.edge else 1
        self._handlers: dict[int, Any] = {self._waker.fileno(): self}
        self._transports: dict[
            StreamTransport, bool
        ] = {}  # in the order they were opened: outgoing?
        self._listeners: list[Listener] = []
        self._again: dict[StreamTransport, None] = {}
        self._poller.watch(self._waker.fileno(), READ)

    # -- what it serves

    def listen(self, sock: Any, service: Service) -> None:
        reason = self.refuse(sock.fileno())
        if reason is not None:
            accepting.close_listener(sock)
            raise BindError(errno.EMFILE, reason)
        self._listeners.append(Listener(self, sock, service))

    def open(self, sock: Any, service: Service, peername: Any, *, outgoing: bool = False) -> None:
        reason = self.refuse(sock.fileno())
        if reason is not None:
            dispatch.logger.warning("connection from %s is closed: %s", peername, reason)
            self.errors["refused"] += 1
            sock.close()
            return
        protocol = self.protocol_for(service)
        if protocol is None:
            sock.close()
            return
        transport = StreamTransport(self, sock, protocol, peername)
        self._handlers[sock.fileno()] = transport
        self._transports[transport] = outgoing
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        transport.opened(verb_of(service) or verb_of(protocol))

    # -- outgoing connections

    def attempt(self, family: int, sockaddr: Any, done: Callable[[Any, int], object]) -> Attempt:
        return Attempt(self, family, sockaddr, done)

    def open_attempt(self, attempt: Attempt, service: Service) -> None:
        self.open(attempt.sock, service, attempt.peername, outgoing=True)

    def outgoing(self) -> int:
        return self.counters.outgoing + len(self.connecting)

    # -- its life

    def run(self) -> bool:
        self.owner = get_ident()
        try:
            for listener in self._listeners:
                listener.resume()
            while self._transports or not self.ending:
                self._turn()
        finally:
            self.close()
        return self._clean

    def stats(self) -> Stats:
        stats = self.counters.snapshot()
        stats.outgoing = self.outgoing()
        return stats

    def close(self) -> None:
        """End without ceremony: every descriptor is closed, whatever state it is in."""
        if self._closed:
            return
        self._close_listeners()
        self.end_connecting()
        for transport in self._open_transports():
            transport.abort()
        self._calls.run()
        while self._transports:  # a connection_lost may have aborted others; calls that go on
            self._calls.run()  # queueing themselves do not hold up the end
        self._closed = self._calls.closed = True
        self.timers.clear()
        self._poller.close()
        self._waker.close()
        self.owner = None

    # -- one turn

    def _turn(self) -> None:
        timeout = 0.0 if self._again or self._calls else self.timers.delay()
        events = self._poller.wait(timeout)
        self.now = time.monotonic()
        for fd, mask, hung_up in events:
            handler = self._handlers.get(fd)
            if handler is not None:  # None: an earlier callback of this turn ended it
                handler.on_event(mask, hung_up)
        if self._again:
            again, self._again = self._again, {}
            for transport in again:
                transport.read()
        self.timers.run_due()
        self._calls.run()
        if self._stop_asked:
            self._wind_down()

    def on_event(self, mask: int, hung_up: bool) -> None:
        """The waker's event: the loop is awake, which is all it was for."""
        self._waker.drain()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _open_transports(self) -> list[StreamTransport]:
        return list(self._transports)

    # -- for transports, listeners and attempts

    def refuse(self, fd: int) -> str | None:
        """Return why this descriptor cannot be watched, or None."""
        return self._poller.refuse(fd)

    def watch_listener(self, listener: Listener, fd: int) -> None:
        self._poller.watch(fd, READ)
        self._handlers[fd] = listener

    def forget_listener(self, fd: int) -> None:
        self._poller.forget(fd)
        self._handlers.pop(fd, None)

    def watch_attempt(self, attempt: Attempt, fd: int) -> None:
        self._poller.watch(fd, WRITE)
        self._handlers[fd] = attempt

    def forget_attempt(self, attempt: Attempt, fd: int) -> None:
        if self._handlers.get(fd) is attempt:
            del self._handlers[fd]
            self._poller.forget(fd)

    def watch(self, transport: StreamTransport, mask: int) -> None:
        """Report a connection's readiness from now on; what cannot be watched is closed."""
        try:
            self._poller.watch(transport.fileno(), mask)
        except OSError as exc:  # ENOSPC: epoll(7), max_user_watches
            transport._fail(exc)

    def again(self, transport: StreamTransport) -> None:
        """Let a connection read at the next turn, without waiting for an event."""
        self._again[transport] = None

    def release(self, transport: StreamTransport, exc: BaseException | None) -> None:
        """Take a connection out of the loop; ``connection_lost`` and close follow at stage 5."""
        fd = transport.fileno()
        self._poller.forget(fd)
        self._handlers.pop(fd, None)
        self._again.pop(transport, None)
        if exc is not None:
            self.errors[type(exc).__name__] += 1
        self._calls.append((self._lost, (transport, exc)))

    def _lost(self, transport: StreamTransport, exc: BaseException | None) -> None:
        try:
            transport.lost(exc)
        finally:
            if self._transports.pop(transport):
                self.counters.outgoing -= 1
            else:
                self.counters.open -= 1
            for listener in self._listeners:
                listener.make_room()
