"""The contract on asyncio's own loop and transports, or on uvloop's: the oracle of the suites.

Everything that asyncio promises is asyncio's here: when data comes, when writing pauses, what a
close does. Added are the verbs, the caps of ``Limits`` and the three stricter rules of
``protocol.py``; see ``asyncio_transport.py`` for what belongs to one connection. Listeners are
ours, not ``create_server``'s: it has no cap on connections, and after a failed accept asyncio rests
a whole second, while libuv takes the client from the queue and drops it.

Known weakness: asyncio does not tell when a queued byte was sent, so ``bytes`` counts what a failed
connection still had queued as sent, and the deadlines look only four times in their length. Neither
loop hears a reset while it does not read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from importlib.util import find_spec
from threading import get_ident
from typing import Any, cast

from muxcore.adapters.asyncio_attempt import Attempt
from muxcore.adapters.asyncio_forking import part, watch_for_forks
from muxcore.adapters.asyncio_lingering import Lingering
from muxcore.adapters.asyncio_loop import Connection, Descriptor, GuardedLoop
from muxcore.adapters.asyncio_transport import AsyncioTransport
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.parts.listener import Listener
from muxcore.protocol import Service
from muxcore.stats import Stats

_LAST_TURNS = 100  # turns the loop still gets to deliver connection_lost; it needs one or two


class AsyncioEngine(GuardedLoop):
    """asyncio's own loop behind the contract."""

    name = "asyncio"
    model = "epoll"

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.counters = Stats(errors=self.errors)
        self._listeners: list[Listener] = []
        self._listening: list[socket.socket] = []  # their sockets
        self._transports: dict[AsyncioTransport, bool] = {}  # whether we opened it
        self._lingering: dict[Lingering, bool] = {}  # whether we opened it
        watch_for_forks(self)

    def count_in(self, cell: Stats) -> None:
        self.counters, self.errors = cell, cell.errors

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        self._listeners.append(Listener(self, sock, service))
        self._listening.append(sock)

    def listen_also(self, sock: socket.socket, service: Service) -> None:
        if self.draining or self.ending:
            sock.close()
            return
        self.listen(sock, service)
        self._listeners[-1].resume()

    def open(self, sock: socket.socket, service: Service, peername: Any) -> None:
        transport = self._transport_for(service, sock, peername, outgoing=False)
        if transport is None:
            sock.close()
            return
        self._watch(self.loop.create_task(self._open(sock, transport)))

    async def _open(self, sock: socket.socket, transport: AsyncioTransport) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: transport.bridge, sock)
        except BaseException as exc:
            if not transport.was_made:
                sock.close()
                self.gone(transport, exc)
            if not isinstance(exc, Exception):
                raise
            dispatch.logger.debug("a connection could not be opened", exc_info=exc)

    def _transport_for(
        self, service: Service, sock: socket.socket, peername: Any, *, outgoing: bool
    ) -> AsyncioTransport | None:
        """Return one that is counted; None: the service has failed."""
        try:
            made = self.transport_for(service, lambda p: AsyncioTransport(self, p, sock, peername))
        except (SystemExit, KeyboardInterrupt) as exc:
            self.leave(exc)
            return None
        if made is None:
            return None
        transport, verb = made
        transport.declared = verb
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        self._transports[transport] = outgoing
        return transport

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Let close() wait for its end."""
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    # -- outgoing connections

    def attempt(
        self, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> Attempt:
        attempt = Attempt(self, family, sockaddr, done)
        self._watch(attempt.task)
        return attempt

    def open_connected(
        self, inner: asyncio.Transport, sock: socket.socket, service: Service, peername: Any
    ) -> None:
        transport = self._transport_for(service, sock, peername, outgoing=True)
        if transport is None:
            inner.abort()
            return
        inner.set_protocol(transport.bridge)
        transport.bridge.connection_made(inner)

    def outgoing(self) -> int:
        return self.counters.outgoing + len(self.connecting)

    # -- its life

    def run(self) -> bool:
        self.owner = get_ident()
        try:
            self.loop.add_reader(self._waker.fileno(), self.guard, self._woken)
            for listener in self._listeners:
                listener.resume()
            self.loop.run_until_complete(self._ended)
        finally:
            self.close()
        if self.leaving is not None:
            raise self.leaving
        return self._clean

    def stats(self) -> Stats:
        stats = self.counters.snapshot()
        stats.outgoing = self.outgoing()
        for transport in list(self._transports):
            received, sent = transport._counted()
            stats.bytes_in += received
            stats.bytes_out += sent
        return stats

    def close(self) -> None:
        if self._closed or self.forked:
            if self._closed and self.forked:  # abandoned: what it closes is the child's own
                self.loop.close()
            return
        self._closed = self._calls.closed = True
        self.close_listeners()
        self.ending = True
        while self.connecting:
            self.guard(self.end_connecting)
        while self._calls:  # sockets that were to be adopted are closed
            self.guard(self._calls.run)
        if "loop" in self.__dict__:
            self._end_transports()
            for lingering in list(self._lingering):
                lingering.close()
            self._end()
            self.loop.close()
        self.timers.clear()
        self._waker.close()
        self.owner = None

    def _end_transports(self) -> None:
        """Abort them, and let the loop deliver each ``connection_lost``."""
        for turn in range(_LAST_TURNS):
            if not (self._transports or self._opening):
                return
            for transport in self.open_transports():
                transport.abort()
            if turn == _LAST_TURNS // 2:  # what hangs by then would not open any more
                for task in self._opening:
                    task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
        for transport in self.open_transports():
            transport._gone(None)  # the loop has lost it: uvloop, if it was cancelled as it opened

    def abandon(self) -> None:
        """Leave a forked child's copy: it came back from a callback, or raised in it."""
        if self._closed:
            return
        self._closed = self._calls.closed = True
        if self.leaving is None:
            self.leaving = RuntimeError(self._not_ours("a child came back from its callback"))
        part(self._waker.fileno(), self._descriptors())
        self._end()

    def refuse_thread(self, what: str) -> None:
        if self.forked:
            raise RuntimeError(self._not_ours(what))
        super().refuse_thread(what)

    def _not_ours(self, what: str) -> str:
        return (
            f"{what}: engine {self.name!r} belongs to the process that this one was forked from; "
            "end the child in the callback that forked it, by os._exit() or sys.exit()"
        )

    def _descriptors(self) -> list[int]:
        descriptors = [self._waker.fileno()]
        descriptors += (sock.fileno() for sock in self._listening)
        descriptors += (transport.fileno() for transport in self._transports)
        return descriptors + [lingering.fileno() for lingering in self._lingering]

    def _woken(self) -> None:
        self._waker.drain()
        self.guard(self._calls.run)
        if self._calls:  # one of them failed, or queued another
            self._waker.wake()
        if self._stop_asked:
            self._wind_down()

    def clients(self) -> int:
        return self.counters.open

    def is_client(self, transport: Any) -> bool:
        return not self._transports.get(transport, True)

    def close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def open_transports(self) -> list[AsyncioTransport]:
        return list(self._transports)

    def _close_all(self) -> None:
        super()._close_all()
        self._end_if_empty()

    def take_nobody(self) -> None:
        super().take_nobody()
        self._finish_drain()

    def _cut_short(self) -> None:
        super()._cut_short()
        for lingering in list(self._lingering):
            self._clean = self._clean and lingering.is_acknowledged()
            lingering.close()

    def _end_if_empty(self) -> None:
        if self.ending and not self._transports and not self._lingering:
            self._end()

    # -- for transports and listeners

    def watch_listener(self, listener: Listener, fd: int) -> None:
        self.loop.add_reader(fd, self.guard, listener.on_event)

    def forget_listener(self, listener: Listener, fd: int) -> None:
        self.loop.remove_reader(fd)

    def gone(
        self, transport: Connection, exc: BaseException | None, left: Descriptor | None = None
    ) -> None:
        outgoing = self._transports.pop(cast(AsyncioTransport, transport))
        received, sent = transport._counted()
        self.counters.bytes_in += received
        self.counters.bytes_out += sent
        if exc is not None:
            self.errors[type(exc).__name__] += 1
        if left is None:
            self._one_less(outgoing)
        else:
            self._lingering[cast(Lingering, left)] = outgoing

    def lingered(self, left: Descriptor) -> None:
        if left in self._lingering:
            self._one_less(self._lingering.pop(left))

    def _one_less(self, outgoing: bool) -> None:
        if outgoing:
            self.counters.outgoing -= 1
        else:
            self.counters.open -= 1
        for listener in self._listeners:
            listener.make_room()
        if self.retiring:
            self._finish_drain()
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
