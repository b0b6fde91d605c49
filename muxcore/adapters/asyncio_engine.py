"""The contract on asyncio's own loop and transports, or on uvloop's: the oracle of the suites.

Everything that asyncio promises is asyncio's here: when data comes, when writing pauses, what a
close does. Added are the verbs, the caps of ``Limits`` and the three stricter rules of
``protocol.py``; see ``asyncio_transport.py`` for what belongs to one connection. Listeners are
ours, not ``create_server``'s: it has no cap on connections, and after a failed accept asyncio rests
a whole second, while libuv takes the client from the queue and drops it.

Known weakness: asyncio does not tell when a queued byte was sent, so ``bytes`` counts what a failed
connection still had queued as sent, and the idle deadline looks only four times in its length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from threading import get_ident
from typing import Any

from muxcore import dispatch
from muxcore.adapters.asyncio_outgoing import Attempt
from muxcore.adapters.asyncio_transport import AsyncioTransport
from muxcore.limits import Limits
from muxcore.listening import Listener
from muxcore.loop_engine import LoopEngine
from muxcore.protocol import Service, verb_of
from muxcore.stats import Stats
from muxcore.timers import Timer

_LAST_TURNS = 100  # turns the loop still gets to deliver connection_lost; it needs one or two


class AsyncioEngine(LoopEngine):
    """asyncio's own loop behind the contract."""

    name = "asyncio"
    model = "epoll"
    edge = False  # what is left in a backlog is told again

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.counters = Stats(errors=self.errors)
        self.loop = self._new_loop()
        self._bell: asyncio.TimerHandle | None = None  # at the next timer's time
        self._listeners: list[Listener] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._transports: dict[AsyncioTransport, bool] = {}  # whether we opened it
        self._ended: asyncio.Future[None] = self.loop.create_future()

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        # not new_event_loop(): a policy that the program has set might answer with another one
        return asyncio.SelectorEventLoop()

    # -- what it serves

    def listen(self, sock: Any, service: Service) -> None:
        self._listeners.append(Listener(self, sock, service))

    def open(self, sock: Any, service: Service, peername: Any) -> None:
        transport = self._transport_for(service, peername, outgoing=False)
        if transport is None:
            sock.close()
            return
        self._watch(self.loop.create_task(self._open(sock, transport)))

    async def _open(self, sock: Any, transport: AsyncioTransport) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: transport.bridge, sock)
        except BaseException as exc:
            sock.close()
            if transport in self._transports:
                self.gone(transport, exc)
            if not isinstance(exc, OSError):
                raise

    def _transport_for(
        self, service: Service, peername: Any, *, outgoing: bool
    ) -> AsyncioTransport | None:
        """Return one that is counted; None: the service has failed."""
        protocol = self.protocol_for(service)
        if protocol is None:
            return None
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        transport = AsyncioTransport(
            self, protocol, peername, verb_of(service) or verb_of(protocol)
        )
        self._transports[transport] = outgoing
        return transport

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Let close() wait for its end."""
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    # -- outgoing connections

    def attempt(self, family: int, sockaddr: Any, done: Callable[[Any, int], object]) -> Attempt:
        attempt = Attempt(self, family, sockaddr, done)
        self._watch(attempt.task)
        return attempt

    def open_attempt(self, attempt: Attempt, service: Service) -> None:
        transport = self._transport_for(service, attempt.peername, outgoing=True)
        if transport is None:
            attempt.inner.abort()
            return
        attempt.inner.set_protocol(transport.bridge)
        transport.bridge.connection_made(attempt.inner)

    def outgoing(self) -> int:
        return self.counters.outgoing + len(self.connecting)

    # -- calls

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = super().call_later(delay, call, *args)
        self._set_bell()
        return timer

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = super().alarm(delay, call, *args)
        self._set_bell()
        return timer

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.loop.call_soon(dispatch.run_call, call, args)

    def _set_bell(self) -> None:
        """Look at the timers when the next one is due."""
        if self._bell is not None:
            self._bell.cancel()
        delay = self.timers.delay()
        self._bell = None if delay is None else self.loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self.timers.run_due()
        self._set_bell()

    # -- its life

    def run(self) -> bool:
        self.owner = get_ident()
        try:
            self.loop.add_reader(self._waker.fileno(), self._woken)
            for listener in self._listeners:
                listener.resume()
            self.loop.run_until_complete(self._ended)
        finally:
            self.close()
        return self._clean

    def stats(self) -> Stats:
        stats = self.counters.snapshot()
        stats.outgoing = self.outgoing()
        for transport in list(self._transports):
            received, sent = transport.counted()
            stats.bytes_in += received
            stats.bytes_out += sent
        return stats

    def close(self) -> None:
        if self._closed:
            return
        self._closed = self._calls.closed = True
        self._close_listeners()
        self.end_connecting()
        while self._calls:  # sockets that were to be adopted are closed
            self._calls.run()
        for task in self._opening:
            task.cancel()
        for transport in self._open_transports():
            transport.abort()
        for _ in range(_LAST_TURNS):
            if not (self._transports or self._opening):
                break
            self.loop.run_until_complete(asyncio.sleep(0))
        self._ended.cancel()
        self.timers.clear()
        self.loop.close()
        self._waker.close()
        self.owner = None

    def _woken(self) -> None:
        self._waker.drain()
        self._calls.run()
        if self._stop_asked:
            self._wind_down()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _open_transports(self) -> list[AsyncioTransport]:
        return list(self._transports)

    def _drain(self) -> None:
        super()._drain()
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self.ending and not self._transports and not self._ended.done():
            self._ended.set_result(None)

    # -- for transports and listeners

    def watch_listener(self, listener: Listener, fd: int) -> None:
        self.loop.add_reader(fd, listener.on_event)

    def forget_listener(self, fd: int) -> None:
        self.loop.remove_reader(fd)

    def gone(self, transport: AsyncioTransport, exc: BaseException | None) -> None:
        """Forget a connection: its ``connection_lost`` has been delivered."""
        if self._transports.pop(transport):
            self.counters.outgoing -= 1
        else:
            self.counters.open -= 1
        received, sent = transport.counted()
        self.counters.bytes_in += received
        self.counters.bytes_out += sent
        if exc is not None:
            self.errors[type(exc).__name__] += 1
        for listener in self._listeners:
            listener.make_room()
        self._end_if_empty()


class UvloopEngine(AsyncioEngine):
    """uvloop's loop behind the contract."""

    name = "uvloop"

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if find_spec("uvloop") is None:
            return (
                "the package uvloop is not installed",
                "install it: pip install 'muxcore[uvloop]'",
            )
        return None

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
