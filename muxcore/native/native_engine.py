"""The epoll model with the loop in C: Python sees batches of events, and no byte under a verb.

A turn has the stages of ``pure/readiness.py``; the first three of them are one call into C, which
may go through thousands of its own turns before there is anything for Python:

1. mux_loop_poll() waits, receives, sends and accepts, without the GIL;
2. the events of its batch, in order; many small writes may cross into C together;
3. timers that are due;
4. calls that were queued.

A connection's slot, and its descriptor, stay until ``connection_lost`` has returned and Python
gives them back, so nothing in a batch can name a later connection.

Without the GIL nothing changes: the engine, its transports and its loop belong to the thread that
runs it, and C refuses every other. Others may use what needs no lock: a deque's append, a byte for
the waker, C's counters.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from muxcore import _forks
from muxcore import address as addresses
from muxcore.address import Address
from muxcore.limits import Limits
from muxcore.native import core
from muxcore.native.attempt import Attempt
from muxcore.native.coming import Coming
from muxcore.native.core_loop import InSlot
from muxcore.native.ending import Ending
from muxcore.native.mover import Mover, end_all
from muxcore.native.native_known import NativeKnown
from muxcore.native.native_socket import RawAddress
from muxcore.native.native_transport import NativeTransport
from muxcore.native.native_verbs import VERBS
from muxcore.parts import dispatch, opening
from muxcore.parts.cells import MOVERS, SIZE, Cell, Cells
from muxcore.parts.connecting import Connecting
from muxcore.parts.timers import sooner
from muxcore.protocol import Service, is_silent, verb_of
from muxcore.stats import Stats

logger = logging.getLogger("muxcore")

_EVENT = struct.Struct("IIiI")  # mux_event: slot, kind, value, where in the arena
_ACCEPTED = struct.Struct("II")  # mux_accepted: listener, size of the address
_LIFE = struct.Struct("QQQQ")  # of MUX_EV_LOST: bytes in, bytes out, it ended first, its answer
_FOREVER = 2**63 - 1

# enum mux_event_kind
_KIND_ACCEPTED, _KIND_DATA, _KIND_EOF, _KIND_DRAINED = range(1, 5)
_KIND_LOST, _KIND_TROUBLE, _KIND_CONNECTED, _KIND_QUEUED = range(5, 9)


class NativeEpollEngine(Ending):
    """One process, one thread, the C core's loop; joined pairs may go to others, its ``movers``."""

    name = "native-epoll"
    model = "epoll"
    capabilities = Ending.capabilities | {
        "edge_trigger",
        "guest",
        "hears_resets",
        "native_verbs",
        "rates",
    }

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if core.missing is None:
            return None
        advice = "install gcc and the python3 headers, build again, or take pure-epoll"
        return f"the C core is not built: {core.missing}", advice

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.lib, self.ffi = core.lib, core.ffi
        self._counted = core.new_counters()
        self._cell: Cell | None = None
        self._memory: Any = None  # of counters that others see: they stay as long as this
        try:
            edge = trigger == "edge"
            loop = core.new_loop(self.limits, edge, self._waker.fileno(), self._counted)
        except OSError:
            self._waker.close()
            raise
        self.loop = self.ffi.gc(loop, self.lib.mux_loop_free)  # also of one that never ran
        cap = self.lib.mux_loop_events_cap(self.loop) * _EVENT.size
        self._events = memoryview(
            self.ffi.buffer(self.ffi.cast("char *", self.lib.mux_loop_events(self.loop)), cap)
        )
        # not a memoryview: a slice of this is bytes at once, 50 ns a message cheaper
        self._arena = self.ffi.buffer(
            self.ffi.cast("char *", self.lib.mux_loop_arena(self.loop)),
            self.lib.mux_loop_arena_size(self.loop),
        )
        self._poll, self.send = self.lib.mux_loop_send_poll, self.lib.mux_send
        self._init_gathering()
        self._unheard: Iterator[tuple[int, int, int, int]] = iter(())  # events of this batch
        self._transports: list[InSlot | None] = []  # by slot: half the memory of a dict
        self._listeners: dict[int, tuple[socket.socket, Service]] = {}
        self._waiting: list[tuple[socket.socket, Service]] = []  # listeners, until run()
        self._forked = False  # this process is a fork of the engine's
        self._movers: list[Mover] = []
        # at the latest when this object goes: they have slots of its loop
        self._end_movers = weakref.finalize(self, end_all, self._movers)

    def count_in(self, cell: Stats) -> None:
        if isinstance(cell, Cell):
            self._cell, self._memory = cell, core.memory_of(cell)
            self._counted = core.counters_in(self._memory, cell.at)
            self.errors = cell.errors
            self.lib.mux_loop_count_in(self.loop, self._counted)

    def balance_with(self, cells: Cells, mine: int) -> None:
        self._memory = core.memory_of(cells[mine])
        self.lib.mux_loop_balance(self.loop, self._memory, len(cells), SIZE)

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        self._waiting.append((sock, service))

    def listen_also(self, sock: socket.socket, service: Service) -> None:
        if self.draining or self.ending:
            sock.close()
        else:
            self._listen(sock, service)

    # -- outgoing connections

    def attempt(
        self, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> Attempt:
        return Attempt(self, family, sockaddr, done)

    def connect_side(
        self, address: Address, service: Service, timeout: float | None = None
    ) -> Connecting:
        if self.witnesses_limit or len(addresses.literal(address)) != 1:
            return self.connect(address, service, timeout)
        self.refuse_ended()
        return Coming(self, address, service, self._time_to_connect(timeout))

    def open_connected(self, slot: int, generation: int, service: Service, peername: Any) -> None:
        self._serve(slot, generation, service, peername)
        transport = self._transports[slot]
        if isinstance(transport, NativeTransport) and not transport._hold:
            transport.hold_in_c(False)  # C has held it until here

    def outgoing(self) -> int:
        return int(self._counted.outgoing)

    def begin_movers(self) -> None:
        """Start the movers that are wanted; where one cannot be, pairs go to those that are."""
        wanted, self.movers = self.movers, 0
        try:
            for number in range(wanted):
                edge = self.trigger == "edge"
                counters = core.new_counters()
                if self._cell is not None and number < MOVERS:
                    counters = core.counters_in(self._memory, self._cell.mover_at(number))
                self._movers.append(Mover(self.loop, self.limits, edge, self._waker, counters))
            if self.ending or self.retiring:
                self._drain_movers()
        except (OSError, RuntimeError) as exc:
            text = "%d of %d movers could be started: joined pairs go to those, or stay"
            logger.warning(text, len(self._movers), wanted, exc_info=exc)

    # -- its life

    def begin(self) -> None:
        for sock, service in self._waiting:
            self._listen(sock, service)
        self._waiting.clear()

    def stats(self) -> Stats:
        return core.stats_of(self._counted, self.errors, [each.counted for each in self._movers])

    def returns(self) -> int:
        """Return how often C came back to Python: under a verb only when connections end."""
        return int(self._counted.returns)

    def close(self) -> None:
        """End without ceremony: every descriptor is closed, whatever state it is in."""
        if self._closed:
            return
        self._closed = self._calls.closed = True
        raised: BaseException | None = None
        if not self._forked:
            self.close_listeners()
            raised = self._end_all()
        self._end_movers()
        self.timers.clear()
        loop, self.loop = self.loop, self.ffi.NULL  # a transport may be asked after the end
        self.ffi.gc(loop, None)
        self.lib.mux_loop_free(loop)
        self._waker.close()
        self.owner = None
        if raised is not None:
            raise raised

    def _end_all(self) -> BaseException | None:
        """Abort what is open, and let each protocol hear of it.

        Returns:
            What a callback raised that means the program; the others have heard all the same.
        """
        raised: BaseException | None = None
        steps: list[Callable[[], object]] = [self.flush, self._hear_rest]
        steps += self.end_connecting, self._calls.run
        while steps or self.open_transports():
            try:
                if steps:
                    steps.pop(0)()
                    continue
                for transport in self.open_transports():
                    transport.abort()
                self._batch(0)  # a connection_lost may have aborted others
            except (SystemExit, KeyboardInterrupt) as exc:
                raised = raised or exc
                steps += self.flush, self._hear_rest
        return raised

    def _hear_rest(self) -> None:
        """Hear of those whose end is in the rest of a batch that a callback has cut short."""
        for slot, kind, value, at in self._unheard:
            transport = self._transports[slot] if slot < len(self._transports) else None
            if kind == _KIND_LOST and transport is not None:
                self._lost(slot, transport, value, at)

    # -- one turn

    def turn(self, wait: bool = True) -> None:
        # One message pays for all that stands here: what is seldom there is not asked twice.
        calls, timers = self._calls, self.timers
        if wait:
            self._batch(self._deadline() if calls or timers.heap else _FOREVER)
        else:
            self._batch(0)
        if calls or timers.heap or self._stop_asked:
            self.flush()  # nobody waits for these
            timers.run_due(self.flush)
            calls.run(self.flush)
            if self._stop_asked:
                self._wind_down()

    def due(self) -> float | None:
        delay = super().due()
        at = self.lib.mux_loop_due(self.loop)
        if at == _FOREVER or delay == 0:
            return delay
        return sooner(delay, max(0.0, (at - time.monotonic_ns()) / core.NS))

    def watched(self) -> int:
        return int(self.lib.mux_loop_fd(self.loop))

    def _deadline(self) -> int:
        """Return when Python itself has something to do: CLOCK_MONOTONIC, ns."""
        if self._calls:
            return 0
        delay = self.timers.delay()
        return _FOREVER if delay is None else time.monotonic_ns() + int(delay * core.NS)

    def _batch(self, deadline: int) -> None:
        """Let C serve until there are events, and handle them.

        What was written since the last batch crosses in the same call: answers that leave together
        come back together, so that batches are larger and waits fewer.
        """
        data = self._joined() if self.parts else b""
        count = self._poll(self.loop, data, len(data), deadline)
        transports: Any = self._transports
        arena = self._arena
        events: Iterable[tuple[int, ...]] = ()
        if count == 1:
            events = (_EVENT.unpack_from(self._events),)
        elif count > 1:
            events = self._unheard = _EVENT.iter_unpack(self._events[: count * _EVENT.size])
            self._watch_callbacks()
        elif count:
            self._poll_failed(-count)
        for slot, kind, value, at in events:
            if kind == _KIND_DATA:
                transport = transports[slot]
                if transport is None:  # the service failed
                    continue
                data = arena[at : at + value]
                if transport._hold or not transport._hears:
                    transport.on_data(data)
                    continue
                protocol = transport._protocol
                try:
                    protocol.data_received(data)
                except BaseException as exc:
                    dispatch.failed(transport, protocol, "data_received", exc)
            elif kind == _KIND_ACCEPTED:
                self._accepted(slot, value & 0xFFFFFFFF, at)
            elif kind == _KIND_TROUBLE:
                logger.warning(
                    "accept failed (%s): trying again every %g s",
                    os.strerror(value),
                    self.limits.accept_pause,
                )
            elif kind == _KIND_QUEUED:
                self._tell_queued(value)
            else:
                transport = transports[slot]
                if transport is None:
                    continue
                if kind == _KIND_LOST:
                    self._lost(slot, transport, value, at)
                elif kind == _KIND_EOF:
                    transport.on_eof()
                elif kind == _KIND_DRAINED:
                    transport.on_drained(value)
                else:
                    transport.on_connected(value)

    def _poll_failed(self, error: int) -> None:
        if error == errno.ECHILD:
            self._forked = True
            _forks.refuse()
        raise OSError(error, f"epoll_wait: {os.strerror(error)}")

    def close_listeners(self) -> None:
        for slot in self._listeners:
            self.lib.mux_unlisten(self.loop, slot)
        for sock, _ in (*self._listeners.values(), *self._waiting):
            opening.close_listener(sock)
        self._listeners.clear()
        self._waiting.clear()

    # -- connections

    def _listen(self, sock: socket.socket, service: Service) -> None:
        if sock.family != socket.AF_UNIX:
            # Linux: what is accepted inherits it, which saves a system call a connection
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        verb = verb_of(service) if is_silent(service) else None
        slot = self.lib.mux_listen(self.loop, sock.fileno(), VERBS[verb], verb is None)
        if slot < 0:
            raise OSError(-slot, f"cannot watch the listener: {os.strerror(-slot)}")
        self._listeners[slot] = (sock, service)

    def _accepted(self, slot: int, generation: int, at: int) -> None:
        listener, size = _ACCEPTED.unpack_from(self._arena, at)
        start = at + _ACCEPTED.size
        if listener in self._listeners:
            peername = RawAddress(self._arena[start : start + size])
            self._serve(slot, generation, self._listeners[listener][1], peername)
        else:  # an earlier callback of this batch has ended the listener
            self._refuse(slot, generation)

    def _serve(self, slot: int, generation: int, service: Service, peername: Any) -> None:
        """Give a connection of the core its protocol and transport."""
        made = self.transport_for(
            service, lambda p: NativeTransport(self, p, peername, slot, generation)
        )
        if made is None:
            self._refuse(slot, generation)
            return
        transport, verb = made
        self.set_transport(slot, transport)
        transport.opened(verb)

    def _refuse(self, slot: int, generation: int) -> None:
        """Leave a connection to C, which ends it; what this batch has of it is nobody's."""
        self.set_transport(slot, None)
        self.lib.mux_refuse(self.loop, slot, generation)

    def set_transport(self, slot: int, transport: InSlot | None) -> None:
        """Have a slot's events go to ``transport``, or to nobody."""
        missing = slot + 1 - len(self._transports)
        if missing > 0:
            self._transports += [None] * missing
        self._transports[slot] = transport

    def open_transports(self) -> list[NativeKnown]:
        return [each for each in self._transports if isinstance(each, NativeKnown)]

    def open(self, sock: socket.socket, service: Service, peername: Any) -> None:
        generation = self.ffi.new("uint32_t *")
        slot = self.lib.mux_adopt(self.loop, sock.fileno(), VERBS[None], True, generation)
        if slot < 0:
            logger.error("a socket could not be adopted: %s", os.strerror(-slot))
            self.errors["refused"] += 1
            sock.close()
            return
        sock.detach()
        self._serve(slot, generation[0], service, peername)

    def _lost(self, slot: int, transport: InSlot, error: int, at: int) -> None:
        try:
            transport.lost(error, *_LIFE.unpack_from(self._arena, at))
        finally:
            self._transports[slot] = None
