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
import contextlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

from muxcore import accepting, dispatch
from muxcore.adapters.asyncio_outgoing import Attempt
from muxcore.adapters.asyncio_transport import AsyncioTransport
from muxcore.calls import Calls
from muxcore.engine import Engine
from muxcore.limits import Limits
from muxcore.protocol import Service, verb_of
from muxcore.stats import Stats
from muxcore.timers import Timer, Timers
from muxcore.wakeup import Waker

_LAST_TURNS = 100  # turns the loop still gets to deliver connection_lost; it needs one or two


class AsyncioEngine(Engine):
    """asyncio's own loop behind the contract."""

    name = "asyncio"
    model = "epoll"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            "adopt",
            "connect",
            "flow_control",
            "half_close",
            "relay",
            "shared_state",
            "threadsafe_calls",
            "timers",
        }
    )

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.counters = Stats()
        self.loop = self._new_loop()
        self._timers = Timers(self.limits.timers)
        self._alarm: asyncio.TimerHandle | None = None  # at the next timer's time
        self._waker = Waker()
        self._calls = Calls(self.limits.callbacks)
        self._listeners: list[_Listener] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._transports: dict[AsyncioTransport, bool] = {}  # whether we opened it
        self._ended: asyncio.Future[None] = self.loop.create_future()
        self.stopping = self._closed = False
        self._clean = True  # no connection was cut short by the end of the engine

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        # not new_event_loop(): a policy that the program has set might answer with another one
        return asyncio.SelectorEventLoop()

    # -- what it serves

    def listen(self, sock: Any, service: Service) -> None:
        self._listeners.append(_Listener(self, sock, service))

    def adopt(self, sock: Any, service: Service) -> None:
        accepting.prepare(sock)
        self.call_soon_threadsafe(self._adopted, sock, service)

    def open(self, sock: Any, service: Service, peername: Any, *, outgoing: bool = False) -> None:
        """Serve a connected, non-blocking socket."""
        try:
            protocol = dispatch.make_protocol(service)
        except Exception as exc:
            name = dispatch.describe(service)
            dispatch.logger.error("service %s failed; its client is refused", name, exc_info=exc)
            self.counters.errors[type(exc).__name__] += 1
            sock.close()
            return
        if outgoing:
            self.counters.outgoing += 1
        else:
            self.counters.open += 1
            self.counters.total += 1
        transport = AsyncioTransport(
            self, protocol, peername, verb_of(service) or verb_of(protocol)
        )
        self._transports[transport] = outgoing
        task = self.loop.create_task(self._open(sock, transport))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sock: Any, transport: AsyncioTransport) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: transport.bridge, sock)
        except BaseException as exc:
            sock.close()
            if transport in self._transports:
                self.gone(transport, exc)
            if not isinstance(exc, OSError):
                raise

    # -- outgoing connections

    def attempt(self, family: int, sockaddr: Any, done: Callable[[Any, int], object]) -> Attempt:
        return Attempt(self, family, sockaddr, done)

    def open_attempt(self, attempt: Attempt, service: Service) -> None:
        self.open(attempt.sock, service, attempt.peername, outgoing=True)

    def outgoing(self) -> int:
        return self.counters.outgoing + len(self.connecting)

    def connect_failed(self, exc: BaseException) -> None:
        self.counters.errors[type(exc).__name__] += 1

    # -- calls

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = self._timers.add(delay, call, *args)
        self._set_alarm()
        return timer

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        self._calls.add(call, args)
        self.loop.call_soon_threadsafe(self._run_call)

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.loop.call_soon(dispatch.run_call, call, args)

    def _run_call(self) -> None:
        if self._calls:  # close() may have made it already
            call, args = self._calls.popleft()
            dispatch.run_call(call, args)

    def _set_alarm(self) -> None:
        """Look at the timers when the next one is due."""
        if self._alarm is not None:
            self._alarm.cancel()
        delay = self._timers.delay()
        self._alarm = None if delay is None else self.loop.call_later(delay, self._run_timers)

    def _run_timers(self) -> None:
        self._timers.run_due()
        self._set_alarm()

    # -- its life

    def run(self) -> bool:
        try:
            self.loop.add_reader(self._waker.fileno(), self._waker.drain)
            for listener in self._listeners:
                listener.resume()
            self.loop.run_until_complete(self._ended)
        finally:
            self.close()
        return self._clean

    def stop(self) -> None:
        self._soon(self._wind_down)

    def abort(self) -> None:
        self._soon(self._wind_down)
        self._soon(self._cut_short)

    def signal_fileno(self) -> int:
        return self._waker.signal_fileno()

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
        self._closed = self._calls.closed = self.stopping = True
        while self._calls:  # sockets that were to be adopted are closed
            self._run_call()
        for listener in self._listeners:
            listener.close()
        self.end_connecting()
        for task in self._opening:
            task.cancel()
        for transport in list(self._transports):
            transport.abort()
        for _ in range(_LAST_TURNS):
            if not (self._transports or self._opening):
                break
            self.loop.run_until_complete(asyncio.sleep(0))
        self._ended.cancel()
        self._timers.clear()
        self.loop.close()
        self._waker.close()

    def _soon(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to end
            self.loop.call_soon_threadsafe(call)

    def _wind_down(self) -> None:
        """Answer ``stop()``."""
        if self.stopping:
            return
        self.stopping = True
        for listener in self._listeners:
            listener.close()
        self.end_connecting()
        for transport in list(self._transports):
            transport.close()
        self._timers.add(self.limits.drain_timeout, self._cut_short)
        self._set_alarm()
        self._end_if_empty()

    def _cut_short(self) -> None:
        """Answer ``abort()``, and the end of the drain."""
        for transport in list(self._transports):
            self._clean = self._clean and not transport.get_write_buffer_size()
            transport.abort()

    def _end_if_empty(self) -> None:
        if self.stopping and not self._transports and not self._ended.done():
            self._ended.set_result(None)

    # -- for transports

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
            self.counters.errors[type(exc).__name__] += 1
        for listener in self._listeners:
            listener.make_room()
        self._end_if_empty()

    def _adopted(self, sock: Any, service: Service) -> None:
        if self.stopping:
            sock.close()
            return
        try:
            peername = sock.getpeername()
        except OSError:
            peername = None  # reset before we came to it: the first receive will say so
        self.open(sock, service, peername)


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


class _Listener:
    """A listener of the loop: watched, resting after a failure, or resting at the cap."""

    def __init__(self, engine: AsyncioEngine, sock: Any, service: Service) -> None:
        self._engine = engine
        self._sock = sock
        self._service = service
        self._full = False  # at Limits.connections
        self._failing = False  # the last attempt failed: an episode is logged once
        self._closed = False

    def resume(self) -> None:
        if not self._closed:
            self._engine.loop.add_reader(self._sock.fileno(), self._accept)

    def make_room(self) -> None:
        """A connection has gone: accept again if that is what this listener waits for."""
        if self._full:
            self._full = False
            self.resume()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine.loop.remove_reader(self._sock.fileno())
            accepting.close_listener(self._sock)

    def _accept(self) -> None:
        engine = self._engine
        for _ in range(engine.limits.accepts_per_turn):
            if self._closed:
                return
            if engine.counters.open >= engine.limits.connections:
                self._full = True
                engine.loop.remove_reader(self._sock.fileno())
                return
            try:
                accepted = accepting.accept(self._sock)
            except (accepting.OutOfResources, OSError) as exc:
                self._rest(exc)
                return
            if accepted is None:
                return
            self._failing = False
            engine.open(accepted[0], self._service, accepted[1])

    def _rest(self, exc: Exception) -> None:
        """Stop asking for a while: the kernel would answer the same at full speed."""
        engine = self._engine
        engine.counters.errors["accept"] += 1
        if not self._failing:
            dispatch.logger.warning(
                "accept failed (%s): trying again every %g s", exc, engine.limits.accept_pause
            )
        self._failing = True
        engine.loop.remove_reader(self._sock.fileno())
        engine.loop.call_later(engine.limits.accept_pause, self.resume)
