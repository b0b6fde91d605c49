"""What engines of one thread and one loop have in common, whoever waits for the events in them.

A loop is told three things from other threads and from signal handlers, without a lock: a call is
queued, ``stop()`` was asked for, ``abort()`` was asked for. A byte for its waker lets it look.
"""

from __future__ import annotations

import abc
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from muxcore import address as addresses
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import Stopped
from muxcore.limits import Limits
from muxcore.parts import dispatch, draining, sockets
from muxcore.parts.balance import Balance
from muxcore.parts.calls import Calls
from muxcore.parts.cells import Cells
from muxcore.parts.connecting import Attempt, Connecting, ended
from muxcore.parts.joining import Joining
from muxcore.parts.known import Known
from muxcore.parts.timers import Timer, Timers
from muxcore.parts.verbs import Verbs
from muxcore.parts.waker import Waker
from muxcore.protocol import AnyProtocol, Service, Verb

T = TypeVar("T")


class LoopEngine(Engine):
    """An engine of one loop: its timers, its queue of calls, its waker, and how it ends."""

    movers = 0  # threads that joined pairs go to, of an engine with native_verbs; set before one is

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            "adopt",
            "connect",
            "drain",
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
        self.errors: Counter[str] = Counter()  # by kind
        self.timers = Timers(self.limits.timers)
        self.connecting: dict[Connecting, None] = {}  # in the order they began
        self._calls = Calls(self.limits.callbacks)
        self._waker = Waker()
        self.balance: Balance | None = None
        self._stop_asked = self._abort_asked = self._closed = False
        self._clean = True  # no connection was cut short by the end of the engine
        self.retiring = False  # nobody new is taken: it ends with the last who is here
        self.held = 0  # of those whom a drain waits for although they have no connection
        self._moved: dict[Known, tuple[int, int]] = {}  # bytes, at a drain's last look

    # -- what an engine fills in

    @abc.abstractmethod
    def open(self, sock: socket.socket, service: Service, peername: Any) -> None:
        """Serve a connected, non-blocking socket."""

    @abc.abstractmethod
    def attempt(
        self, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> Attempt:
        """Begin connect(2): see ``Connects``, the page of what a connection on its way asks."""

    @abc.abstractmethod
    def outgoing(self) -> int:
        """Return how many outgoing connections are open, or on their way."""

    @abc.abstractmethod
    def clients(self) -> int:
        """Return how many connections are open that others opened."""

    @abc.abstractmethod
    def close_listeners(self) -> None:
        """Accept nothing from now on."""

    @abc.abstractmethod
    def open_transports(self) -> Sequence[Known]:
        """Return those whose ``connection_lost`` has not been called."""

    @abc.abstractmethod
    def is_client(self, transport: Any) -> bool:
        """Return whether others have opened it."""

    # -- what it serves

    def balance_with(self, cells: Cells, mine: int) -> None:
        self.balance = Balance(cells, mine)

    def adopt(self, sock: socket.socket, service: Service) -> None:
        self._calls.refuse()
        ours = sockets.taken_over(sock)
        self.call_from_thread(self.take, ours, service)
        if self._calls.closed:  # it has ended meanwhile: nobody else will close it
            ours.close()

    def take(self, sock: socket.socket, service: Service) -> bool:
        """Serve a connected socket that is the engine's already, in its thread.

        Returns:
            Whether it is served; else it is closed: the engine is ending, or at its cap.
        """
        if self.ending:
            sock.close()
            return False
        if self.clients() >= self.limits.connections:
            dispatch.logger.warning("an adopted socket is closed: see Limits.connections")
            self.errors["refused"] += 1
            sock.close()
            return False
        sockets.prepare(sock)
        try:
            peername = sock.getpeername()
        except OSError:
            peername = None  # reset before we came to it: the first receive will say so
        self.open(sock, service, peername)
        return True

    def transport_for(
        self, service: Service, make: Callable[[AnyProtocol], T]
    ) -> tuple[T, Verb | None] | None:
        """Call the service for a connection: see ``dispatch.made_for``."""
        return dispatch.made_for(service, make, self._count)

    # -- outgoing connections

    def connect(
        self, address: str | int | Address, service: Service, timeout: float | None = None
    ) -> Connecting:
        self.refuse_ended()
        return Connecting(self, addresses.parse(address), service, self._time_to_connect(timeout))

    def connect_failed(self, exc: BaseException) -> None:
        """Count a connection that did not come about."""
        self._count(exc)

    def _count(self, exc: BaseException) -> None:
        self.errors[type(exc).__name__] += 1

    def end_connecting(self) -> None:
        """Let what is on its way fail, and whatever else is asked for: the engine is ending.

        Raises:
            BaseException: what a protocol that heard of it raised to end the program; the others
                have heard of it, too.
        """
        self.ending = True
        raised: BaseException | None = None
        for each in list(self.connecting):
            try:
                each.fail(ended())
            except BaseException as exc:
                raised = raised or exc
        if raised is not None:
            raise raised

    # -- calls

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        self.refuse_ended()
        return self.timers.add(delay, call, *args)

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        self._calls.add(call, args)
        self._waker.wake()

    def call_from_thread(self, call: Callable[..., object], *args: Any) -> None:
        """Queue one from any thread, as ``call_soon_threadsafe`` does; it counts in no cap.

        After the engine's end it is dropped.
        """
        self._calls.append((call, args))
        self._waker.wake()

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Queue one for later, in seconds; it counts in no cap."""
        return self.timers.add_own(delay, call, *args)

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Queue a call of the engine's own, in its thread: this turn's end, or the next."""
        self._calls.append((call, args))

    def left_over(self, go_on: Callable[[], object]) -> None:
        """Hear that ``go_on`` is to be called once more: a turn's budget was spent before its work.

        Here nothing is to be done: the kernel says again what is ready.
        """

    # -- its end

    def stop(self) -> None:
        self._stop_asked = True
        self._waker.wake()

    def abort(self) -> None:
        self._abort_asked = True
        self.stop()

    def drain(self, timeout: float | None = None) -> None:
        self.call_from_thread(self._begin_drain, timeout)

    def call_from_signal(self, call: Callable[[], object]) -> None:
        self.call_from_thread(call)

    def signal_fileno(self) -> int:
        return self._waker.signal_fileno()

    def _wind_down(self) -> None:
        """Answer ``stop()`` and ``abort()``, once each."""
        if not self.ending:
            self.on_phase("ending")
            self.close_listeners()
            self.end_connecting()
            self._close_all()
            self.alarm(self.limits.stop_timeout, self.abort)
        if self._abort_asked:
            self._abort_asked = False
            self._cut_short()

    def _close_all(self) -> None:
        """Close every connection, which sends what is queued first."""
        for transport in self.open_transports():
            transport.close()

    def _cut_short(self) -> None:
        """Abort what is still open."""
        for transport in self.open_transports():
            self._clean = self._clean and not transport.get_write_buffer_size()
            transport.abort()

    # -- a drain: see draining.py

    def _begin_drain(self, timeout: float | None) -> None:
        if not (self.draining or self.ending):
            self.draining = True
            self._drain_on(draining.steps(self, timeout))

    def _drain_on(self, steps: Iterator[float]) -> None:
        """Take the next step, unless a stop has cut it short."""
        try:
            wait = None if self.ending else next(steps, None)
        except BaseException:
            self.stop()  # there is no step after it
            raise
        if wait is not None:
            self.alarm(wait, self._drain_on, steps)

    def tell_draining(self) -> None:
        for transport in self.open_transports():
            transport.tell_draining()

    def take_nobody(self) -> None:
        self.close_listeners()
        self.retiring = True

    def stop_idle(self) -> None:
        before, self._moved = self._moved, {}
        for transport in self.open_transports():
            if transport.has_ended() or not self.is_client(transport):
                continue
            moved = transport._counted()
            if before.get(transport) == moved and self._rests(transport):
                transport._fail(Stopped())
            else:
                self._moved[transport] = moved

    def _rests(self, transport: Known) -> bool:
        """Whether nothing is on its way in a connection in which no byte moves."""
        if transport.get_write_buffer_size() or transport._waits_for_rate():
            return False
        if not isinstance(transport, Verbs):  # C has it, and its peer, to their end
            return True
        if transport.is_closing():  # it ends by itself, and in order
            return False
        peer = transport._peer
        if isinstance(peer, Joining):
            return False
        if transport._verb is None:
            # a task of muxcore.aio that does not wait for bytes is at work
            works = not getattr(transport.get_protocol(), "is_awaited", True)
            if works or transport in self.may_rest:
                return False
        return peer is None or not peer.get_write_buffer_size()

    def stop_clients(self, most: int) -> int:
        ended = 0
        for transport in self.open_transports():
            if ended == most:
                break
            if self.is_client(transport) and not transport.has_ended():
                transport._fail(Stopped())
                ended += 1
        self._clean = self._clean and not ended
        return ended

    def let_go(self) -> None:
        """One less is held: a drain may be over."""
        self.held -= 1
        if self.draining and not self.held:
            self.call_from_thread(self._finish_drain)

    def _finish_drain(self) -> None:
        """Stop once the last has gone whom a drain waits for; what the program opened ends then."""
        over = self.draining and self.retiring and not (self.held or self.clients())
        if over and not (self.ending or self._stop_asked):
            self.stop()
