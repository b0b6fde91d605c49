"""One connection of the C core, as a protocol sees it.

The rules are ``BaseTransport``'s; the bytes are C's. What stands here is the border between them:

- A small write is gathered, and crosses with all others of the turn; whatever has to know the state
  of the send queue (a large write, ``close``, a verb, …) lets all cross first.
- C knows one reason for not reading, "Python holds it": any of ``_hold``'s bits.
- A batch may hold bytes of a connection that an earlier callback of the batch has paused. They are
  kept, and come first after ``resume_reading``, or go first into the verb; only then C reads on.
"""

from __future__ import annotations

import os
from threading import get_ident
from typing import Any

from muxcore import dispatch
from muxcore.errors import HalfCloseTimeout, IdleTimeout, passed_on
from muxcore.joining import Joining
from muxcore.native.core import mark
from muxcore.native.native_socket import LentSocket, RawAddress
from muxcore.protocol import Bytes, Verb, handles
from muxcore.transport import (
    CLOSING,
    HOLD_CLOSING,
    HOLD_CONNECT,
    HOLD_EOF,
    LOST,
    OPEN,
    BaseTransport,
)
from muxcore.transport_socket import TransportSocket

VERBS = {None: 0, Verb.ECHO: 1, Verb.DISCARD: 2, Verb.RELAY: 3}
"""enum mux_verb, by its name in Python."""

# Below that a copy is cheaper than a crossing of its own (about 0.3 µs, or 8 KiB of memcpy).
SMALL = 4096
# Gathered bytes of one connection: at most the default high-water mark, so that what is gathered
# can never have to pause anybody. A first small write is not counted, a last one may pass ROOM.
GATHERED_MOST = 65_536
ROOM = GATHERED_MOST - 2 * SMALL

# How a write goes: FREE and GATHERING stand for "open, no verb, no EOF, nothing queued in C", so
# that a small write needs no look at anything else; it is gathered, as the turn's first or another.
DIRECT, GATHERING, FREE = range(3)

_IDLE, _HALF_CLOSED = -1, -2  # MUX_IDLE, MUX_HALF_CLOSED
_PASSED_ON = 0x10000  # MUX_PASSED_ON


class NativeTransport(BaseTransport):
    """A connection in a slot of the C core.

    Args:
        engine: the engine; its ``lib`` and ``loop`` are the C core.
        protocol: what the service returned.
        peername: a socket address, or the kernel's form of one: an idle connection that nobody asks
            for it does not pay for the objects.
        slot: the slot's number.
        generation: which of the slot's lives this is.
    """

    __slots__ = ("_end", "_generation", "_kept", "_slot", "_way")

    def __init__(
        self, engine: Any, protocol: Any, peername: Any, slot: int, generation: int
    ) -> None:
        self._slot = slot
        self._generation = generation
        self._kept: list[bytes] | None = None  # received and not delivered; b"" is the peer's EOF
        self._end: Any = None  # why it ends; from connection_lost on: (bytes in, bytes out)
        super().__init__(engine, protocol, peername)
        self._way = FREE if self._high >= GATHERED_MOST else DIRECT

    # -- what is known of it

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername" and isinstance(self._peername, RawAddress):
            self._peername = self._peername.decoded()
        return super().get_extra_info(name, default)

    # -- events

    def on_data(self, data: bytes) -> None:
        """Take bytes that cannot go to ``data_received`` at once."""
        if self._state != OPEN:
            return
        if self._hold & HOLD_CONNECT:
            self._keep(data)
        elif self._verb is Verb.RELAY:  # begun by an earlier callback of this batch
            self._give_to_peer(data)
        elif self._verb is not None:
            self._give_to_verb(data)
        elif self._hold or self._kept is not None:
            self._keep(data)
        else:
            self._deliver(data)

    def on_eof(self) -> None:
        if self._state == LOST:
            return
        if self._verb is Verb.RELAY and not self._hold & HOLD_CONNECT:
            self._give_to_peer(b"")
        elif self._hold or self._kept is not None:
            self._keep(b"")  # a paused protocol does not hear of it before it resumes
        else:
            self._eof_received()

    def on_drained(self, size: int) -> None:
        """The queue has shrunk to the low-water mark, or is empty."""
        if self._state != LOST:
            self._shrunk(size)
            self._find_way()

    def queue_is(self, size: int) -> None:
        """So much is queued after a write."""
        self._way = DIRECT
        if self._state != LOST:
            self._grown(size)

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            self._kept = []
        self._kept.append(data)

    def _deliver(self, data: bytes) -> None:
        protocol = self._protocol
        if not self._buffered:
            on_data = getattr(protocol, "data_received", None)
            if on_data is None:
                return
            try:
                on_data(data)
            except Exception as exc:
                dispatch.failed(self, protocol, "data_received", exc)
            return
        rest = memoryview(data)
        while rest and self._state == OPEN:  # a BufferedProtocol, by its own buffer's size
            if self._hold:
                self._keep(bytes(rest))
                return
            try:
                buffer = memoryview(protocol.get_buffer(-1)).cast("B")
                if not len(buffer):
                    raise RuntimeError("get_buffer() returned an empty buffer")
            except Exception as exc:
                dispatch.failed(self, protocol, "get_buffer", exc)
                return
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            rest = rest[size:]
            dispatch.call(self, protocol, "buffer_updated", size)

    def _deliver_kept(self) -> None:
        """Deliver what came while reading was held; then let C read on."""
        while self._kept and not self._hold and self._state == OPEN:
            data = self._kept.pop(0)
            kept, self._kept = self._kept, None  # what is delivered may be held back again: first
            if data:
                self._deliver(data)
            else:
                self._eof_received()
            self._kept = (self._kept or []) + kept
        if not self._hold:
            self._kept = None
            self.hold_in_c(False)

    # -- writing

    def write(self, data: Bytes) -> None:
        # Each message pays for every instruction here: super() alone costs as much as all the rest.
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("write()")
        way = self._way
        if not way or type(data) is not bytes:
            super().write(data)
            return
        engine = self._engine
        if len(data) > SMALL:
            if engine.parts:
                engine.flush()
            queued = engine.send(engine.loop, self._slot, self._generation, data, len(data))
            if queued > 0:
                self.queue_is(queued)
            return
        engine.parts.append(data)
        engine.writers.append(self._slot)
        if way == FREE:
            self._way = GATHERING
        else:
            engine.room -= len(data)
            if engine.room < 0:
                engine.flush()

    def _put(self, data: Bytes) -> None:
        self._cross()
        engine = self._engine
        if type(data) is not bytes:
            if isinstance(data, memoryview) and not data.c_contiguous:
                data = data.tobytes()
            data = engine.ffi.from_buffer(data)
        queued = engine.send(engine.loop, self._slot, self._generation, data, len(data))
        if queued > 0:
            self.queue_is(queued)

    def write_eof(self) -> None:
        self._cross()
        super().write_eof()
        self._find_way()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._cross()
        super().set_write_buffer_limits(high, low)
        marks = mark(self._high), mark(self._low)
        self._engine.lib.mux_marks(self._engine.loop, self._slot, self._generation, *marks)
        self._find_way()

    def get_write_buffer_size(self) -> int:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("get_write_buffer_size()")
        self._cross()
        engine = self._engine
        return max(0, int(engine.lib.mux_queued(engine.loop, self._slot, self._generation)))

    def _cross(self) -> None:
        """Let gathered writes cross into C."""
        if self._engine.parts:
            self._engine.flush()

    def _find_way(self) -> None:
        """Find out whether small writes may be gathered (again)."""
        free = (
            self._state == OPEN
            and self._verb is None
            and not self._eof_written
            and self._high >= GATHERED_MOST
            and not self.get_write_buffer_size()
        )
        self._way = FREE if free else DIRECT

    def _shutdown_write(self) -> None:
        self._engine.lib.mux_write_eof(self._engine.loop, self._slot, self._generation)

    # -- the end

    def close(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("close()")
        if self._state == OPEN:
            self._state = CLOSING
            self._hold |= HOLD_CLOSING
            if self._peer is not None:
                self._peer.close()
            self._cross()
            self._way = DIRECT
            self._engine.lib.mux_close(self._engine.loop, self._slot, self._generation)

    def _drop(self, exc: BaseException | None) -> None:
        self._end = exc
        self._cross()  # asyncio too delivers write(b"hello"); abort()
        self._way = DIRECT
        self._engine.lib.mux_abort(self._engine.loop, self._slot, self._generation)

    def lost(self, error: int) -> None:
        """Deliver ``connection_lost``; what refers to the protocol goes too.

        Args:
            error: why C ended it: an errno, MUX_IDLE, or 0.
        """
        engine, exc = self._engine, self._end
        if exc is None and error:
            if error == _IDLE:
                exc = IdleTimeout(engine.limits.idle_timeout)
            elif error == _HALF_CLOSED:
                exc = HalfCloseTimeout(engine.limits.half_close_timeout)
            else:
                number = error & ~_PASSED_ON
                exc = OSError(number, os.strerror(number))
                if number != error:
                    exc = passed_on(exc)
        if exc is not None:
            engine.errors[type(exc).__name__] += 1
        self._end = self._counted()
        peer, self._peer = self._peer, None
        if isinstance(peer, Joining):  # it was to be joined: nobody waits any more
            peer.close()
        self._state = LOST
        self._hold |= HOLD_CLOSING
        self._way = DIRECT
        self._kept = None
        try:
            dispatch.call(self, self._protocol, "connection_lost", exc)
        finally:
            self._protocol = None  # it may refer to this object: no cycle is left
            engine.lib.mux_release(engine.loop, self._slot, self._generation)

    # -- a relay

    def relay(
        self, peer: Any, *, first: Bytes = b"", back: Bytes = b"", timeout: float | None = None
    ) -> None:
        self._cross()
        super().relay(peer, first=first, back=back, timeout=timeout)
        self._find_way()

    def _join(self, peer: Any, first: Bytes, back: Bytes) -> None:
        self._cross()
        engine = self._engine
        to_peer, to_self = bytes(first) + self._take_kept(), bytes(back) + peer._take_kept()
        engine.lib.mux_relay(
            engine.loop,
            *(self._slot, self._generation, peer._slot, peer._generation),
            *(to_peer, len(to_peer), to_self, len(to_self)),
        )
        for side, other in ((self, peer), (peer, self)):
            side._verb, side._peer, side._way = Verb.RELAY, other, DIRECT
            side._hold &= HOLD_EOF | HOLD_CLOSING
        for side in (self, peer):
            side._keep_cap(side.get_write_buffer_size())
            if side._hold & HOLD_EOF:  # it was heard before: pass it on now
                side._give_to_peer(b"")
        for side in (self, peer):
            if side._state == OPEN and not handles(side._protocol, "connection_lost"):
                side._forget()

    def _take_kept(self) -> bytes:
        """Return what was received and not delivered; the peer's EOF among it counts as heard."""
        kept, self._kept = self._kept or [], None
        if b"" in kept:
            self._hold |= HOLD_EOF
        return b"".join(kept)

    def _give_to_peer(self, data: bytes) -> None:
        """Pass on what C has already handed out: bytes, or none: the EOF."""
        engine = self._engine
        engine.lib.mux_relay_more(engine.loop, self._slot, self._generation, data, len(data))

    def _forget(self) -> None:
        """Leave it to C: there is nobody who would hear of its end."""
        engine = self._engine
        if not engine.lib.mux_forget(engine.loop, self._slot, self._generation):
            engine.set_transport(self._slot, None)
            if self._peer is not None:  # else the other side was forgotten before
                self._peer._peer = None  # nothing else keeps this object

    # -- for the base class

    def _reading_changed(self) -> None:
        if self._state == LOST:
            return
        if not self._hold and self._kept is not None:
            self._engine.call_soon(self._deliver_kept)  # never within resume_reading()
        else:
            self.hold_in_c(bool(self._hold))

    def hold_in_c(self, on: bool) -> None:
        self._engine.lib.mux_hold(self._engine.loop, self._slot, self._generation, on)

    def _verb_begun(self, verb: Verb) -> None:
        self._cross()
        self._way = DIRECT
        kept, self._kept = self._kept, None
        self._give_to_verb(b"".join(kept or ()))
        if kept and not kept[-1]:  # the peer's EOF is among what was kept
            self.close()

    def _give_to_verb(self, data: bytes) -> None:
        """Let the verb begin, or go on, with bytes that C has already handed out."""
        engine, verb = self._engine, VERBS[self._verb]
        engine.lib.mux_verb(engine.loop, self._slot, self._generation, verb, data, len(data))

    def _half_closed(self) -> None:
        """C keeps that deadline."""

    def _counted(self) -> tuple[int, int]:
        if isinstance(self._end, tuple):
            return self._end
        engine = self._engine
        in_out = engine.ffi.new("uint64_t[2]")
        engine.lib.mux_bytes(engine.loop, self._slot, self._generation, in_out)
        return in_out[0], in_out[1]

    def _socket(self) -> TransportSocket | None:
        return LentSocket(self.fileno)

    # -- for the engine

    def fileno(self) -> int:
        """Return the connection's descriptor, or -1 where it has none (any more)."""
        engine = self._engine
        if isinstance(self._end, tuple):
            return -1
        return int(engine.lib.mux_handle(engine.loop, self._slot, self._generation))

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, and begin the service's verb if it has one."""
        dispatch.call(self, self._protocol, "connection_made", self)
        if verb is not None and self._state == OPEN and self._verb is None:
            self._begin(verb)
