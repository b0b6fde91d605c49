"""The loop that select and epoll share: one thread, and a poller that says who is ready.

A turn has five stages, in this order, so that what a callback does holds for every later stage:

1. wait for events, no longer than the next timer allows, and not at all if work is left over;
2. events: connections send and receive, listeners accept;
3. those whose turn's budget ran out, or whose edge was held back, go on;
4. timers that are due;
5. calls that were queued, ``connection_lost`` among them: a connection is closed only here, so
   within one turn no descriptor is given to a new connection while an event for the old one may
   still come.

A descriptor may be closed by somebody else, and its number come up again: whoever had it hears so
before the new one is watched. In a fork of the process that made it, an engine closes descriptors
and does nothing else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar

from muxcore import _forks
from muxcore.errors import BindError, EngineUnavailable
from muxcore.limits import Limits
from muxcore.parts import dispatch, sockets
from muxcore.parts.listener import Listener
from muxcore.parts.loop import LoopEngine
from muxcore.protocol import Service
from muxcore.pure.attempt import Attempt
from muxcore.pure.lingering import Lingering
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
        # whether a connection notes when its bytes move: two looks at the clock, 0.1 µs a message
        self.clocked = self.limits.idle_timeout is not None
        self.counters = Stats(errors=self.errors)
        self._forks = _forks.count
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
        self._lingering: dict[Lingering, None] = {}
        reason = self.refuse(self._waker.fileno())
        if reason is not None:
            self._poller.close()
            self._waker.close()
            advice = "make the server before so many are open, or take pure-epoll"
            raise EngineUnavailable(self.name, reason, advice)
        self._poller.watch(self._waker.fileno(), READ)

    # -- what it serves

    def listen(self, sock: Any, service: Service) -> None:
        reason = self.refuse(sock.fileno())
        if reason is not None:
            sockets.close_listener(sock)
            raise BindError(errno.EMFILE, reason)
        self._listeners.append(Listener(self, sock, service))

    def open(self, sock: Any, service: Service, peername: Any, *, outgoing: bool = False) -> None:
        fd = sock.fileno()
        reason = self.refuse(fd) if fd >= 0 else "something in this process closed its descriptor"
        if reason is not None:
            dispatch.logger.warning("connection from %s is closed: %s", peername, reason)
            self.errors["refused"] += 1
            sock.close()
            return
        made = self.transport_for(service, lambda p: StreamTransport(self, sock, p, peername))
        if made is None:
            sock.close()
            return
        transport, verb = made
        self._claim(fd, transport)
        self._transports[transport] = outgoing
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        transport.opened(verb)

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
            while self._transports or self._lingering or not self.ending:
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
        self._closed = self._calls.closed = True  # an adopt() from now on is refused
        if _forks.count != self._forks:
            self._abandon()
            return
        raised: list[BaseException] = []

        def surely(call: Callable[..., object], *args: Any) -> None:
            """Make a call; what it raises may not keep the others from hearing of the end."""
            try:
                call(*args)
            except BaseException as exc:
                raised.append(exc)

        surely(self._close_listeners)
        surely(self.end_connecting)
        for transport in self._open_transports():
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

    def _abandon(self) -> None:
        """Close every descriptor: the connections and the epoll set are the parent's."""
        for handler in list(self._handlers.values()):
            if handler is not self:
                handler.abandon()
        for transport in self._open_transports():  # those that wait for connection_lost
            transport.abandon()
        for listener in self._listeners:
            listener.abandon()
        self._calls.clear()
        self.timers.clear()
        self._poller.close()
        self._waker.close()
        self.owner = None

    # -- one turn

    def _turn(self) -> None:
        if _forks.count != self._forks:
            _forks.refuse()
        handlers = self._handlers
        timeout = 0.0 if self._again or self._calls else self.timers.delay()
        for fd, events in self._poller.wait(timeout):
            handler = handlers.get(fd)
            if handler is not None:  # None: an earlier callback of this turn ended it
                handler.on_event(events)
        if self._again:
            again, self._again = self._again, {}
            for transport in again:
                transport.go_on()
        self.timers.run_due()
        self._calls.run()
        if self._stop_asked:
            self._wind_down()

    def on_event(self, events: int) -> None:
        """The waker's event: the loop is awake, which is all it was for."""
        self._waker.drain()

    def disowned(self) -> None:
        raise RuntimeError("something in this process closed the descriptor of the engine's waker")

    def _clients(self) -> int:
        return self.counters.open

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _open_transports(self) -> list[StreamTransport]:
        return list(self._transports)

    def _cut_short(self) -> None:
        super()._cut_short()
        for lingering in list(self._lingering):
            self._clean = self._clean and lingering.is_acknowledged()
            lingering.end()

    # -- for transports, listeners and attempts

    def refuse(self, fd: int) -> str | None:
        """Return why this descriptor cannot be watched, or None."""
        return self._poller.refuse(fd)

    def watch_listener(self, listener: Listener, fd: int) -> None:
        self._claim(fd, listener)
        self._poller.watch(fd, READ)

    def forget_listener(self, fd: int) -> None:
        if isinstance(self._handlers.get(fd), Listener):
            del self._handlers[fd]
            self._poller.forget(fd)

    def watch_attempt(self, attempt: Attempt, fd: int) -> None:
        self._claim(fd, attempt)
        self._poller.watch(fd, WRITE)

    def forget_attempt(self, attempt: Attempt, fd: int) -> None:
        self._forget(fd, attempt)

    def watch_lingering(self, lingering: Lingering, fd: int, mask: int) -> None:
        self._claim(fd, lingering)
        try:
            self._poller.watch(fd, mask)
        except OSError:
            lingering.end()

    def forget_lingering(self, lingering: Lingering, fd: int) -> None:
        self._forget(fd, lingering)
        if lingering in self._lingering:
            del self._lingering[lingering]
            self._gone(lingering.outgoing)

    def watch(self, transport: StreamTransport, mask: int) -> None:
        """Report a connection's readiness from now on; what cannot be watched is closed."""
        try:
            self._poller.watch(transport.fd, mask)
        except OSError as exc:  # ENOSPC: epoll(7), max_user_watches
            transport.broken(exc)

    def again(self, transport: StreamTransport) -> None:
        """Let a connection go on at the next turn, without waiting for an event."""
        self._again[transport] = None

    def release(self, transport: StreamTransport, exc: BaseException | None) -> None:
        """Take a connection out of the loop; ``connection_lost`` and close follow at stage 5."""
        # it stays a handler until it is closed: whoever claims the number till then disowns it
        if self._handlers.get(transport.fd) is transport and not self._poller.forget(transport.fd):
            transport.disowned()
        self._again.pop(transport, None)
        if exc is not None:
            self.errors[type(exc).__name__] += 1
        self._calls.append((self._lost, (transport, exc)))

    def _forget(self, fd: int, handler: Any) -> None:
        """Have a descriptor watched no longer, unless its number is another's by now."""
        if self._handlers.get(fd) is handler:
            del self._handlers[fd]
            self._poller.forget(fd)

    def _claim(self, fd: int, handler: Any) -> None:
        """Have a descriptor's events go to ``handler``; whoever had the number lost it."""
        before = self._handlers.get(fd)
        if before is not None and before is not handler:
            before.disowned()
        self._handlers[fd] = handler

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
                lingering = Lingering(self, sock, outgoing)
                self._lingering[lingering] = None
                lingering.begin()

    def _gone(self, outgoing: bool) -> None:
        """A connection's descriptor is closed: there is room for another."""
        if outgoing:
            self.counters.outgoing -= 1
        else:
            self.counters.open -= 1
        for listener in self._listeners:
            listener.make_room()
