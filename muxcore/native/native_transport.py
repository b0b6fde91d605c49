"""One connection of the C core, as a protocol sees it.

The rules are ``BaseTransport``'s; the bytes are C's. What stands here is the border between them:

- Small writes of one batch are gathered and cross together. What has to know the state of the send
  queue (a large write, ``close``, a verb, …) lets them cross first, and nobody waits for a slow
  callback: see ``NativeEpollEngine._batch``.
- C knows one reason for not reading, "Python holds it": any of ``_hold``'s bits but the peer's EOF,
  which C knows itself.
- A batch may hold bytes of a connection that an earlier callback of the batch has paused. They are
  kept, and come first after ``resume_reading``, or go first into the verb; only then C reads on.
- C may have lost a connection already, and the event that says so has yet to be heard. What is
  asked of it meanwhile is answered with 0 or -ESTALE: there is nothing to be done any more.
"""

from __future__ import annotations

import errno
import sys
from threading import get_ident
from typing import Any

from muxcore.native.core import mark
from muxcore.native.core_loop import CoreLoop
from muxcore.native.gathering import FEW, SAFE, SIZES, SMALL
from muxcore.native.native_joined import NativeJoined
from muxcore.native.native_known import TICKS
from muxcore.native.native_verbs import NativeVerbs
from muxcore.parts import dispatch
from muxcore.parts.joining import Joining
from muxcore.parts.known import ToItsEnd
from muxcore.parts.states import (
    CLOSING,
    HOLD_CLOSING,
    HOLD_CONNECT,
    HOLD_EOF,
    HOLD_FIRST,
    LOST,
    OPEN,
)
from muxcore.protocol import AnyProtocol, Bytes, Verb


class NativeTransport(NativeVerbs):
    """A connection in a slot of the C core.

    Args:
        engine: the engine; its ``lib`` and ``loop`` are the C core.
        protocol: what the service returned.
        peername: a socket address, or the kernel's form of one: an idle connection that nobody asks
            for it does not pay for the objects.
        slot: the slot's number.
        generation: which of the slot's lives this is.
    """

    __slots__ = ("_reason", "_totals")

    def __init__(
        self, engine: CoreLoop, protocol: AnyProtocol, peername: Any, slot: int, generation: int
    ) -> None:
        self._slot = slot
        self._generation = generation
        self._head = slot.to_bytes(4, sys.byteorder)  # of a gathered write: csrc/gather.h
        self._kept = None
        self._reason: BaseException | None = None  # why Python ends it
        # (bytes in, bytes out, when it was answered), from the end on
        self._totals: tuple[int, int, int] | None = None
        self._plain = True  # open, no verb, no EOF, nothing queued: a write needs no other look
        super().__init__(engine, protocol, peername)
        self._plain = self._high >= SAFE

    # -- what is known of it

    def set_protocol(self, protocol: AnyProtocol) -> None:
        # what the base class does, without the call: a relayed client has three protocols
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("set_protocol()")
        self._protocol = protocol
        hears = hasattr(protocol, "data_received")
        self._buffered = not hears and hasattr(protocol, "get_buffer")
        self._hears = hears and self._verb is None

    # -- events

    def on_data(self, data: bytes) -> None:
        """Take bytes that do not simply go to ``data_received``."""
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
        elif self._hears:
            dispatch.call(self, self._protocol, "data_received", data)
        elif self._buffered:
            self._fill_buffers(data)

    def on_eof(self) -> None:
        if self._state != OPEN:
            return
        if self._hold & HOLD_CONNECT:
            self._keep(b"")
        elif self._verb is Verb.RELAY:
            self._give_to_peer(b"")
        elif self._verb is not None:
            self.close()
        elif self._hold or self._kept is not None:
            self._keep(b"")  # a paused protocol does not hear of it before it resumes
        else:
            self._eof_received()

    def on_drained(self, size: int) -> None:
        """The queue has shrunk to the low-water mark, or is empty."""
        if self._state != LOST:
            self._shrunk(size)
            self._find_plain()

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            self._kept = []
        self._kept.append(data)

    def _fill_buffers(self, data: bytes) -> None:
        """Deliver to a BufferedProtocol; what its callbacks do governs the rest of the bytes."""
        protocol, rest = self._protocol, memoryview(data)
        while rest and self._fills(protocol):
            try:
                buffer = memoryview(protocol.get_buffer(-1)).cast("B")
                if not len(buffer):
                    raise RuntimeError("get_buffer() returned an empty buffer")
                if not self._fills(protocol):
                    break
                size = min(len(buffer), len(rest))
                buffer[:size] = rest[:size]
                buffer.release()  # the protocol may resize it in buffer_updated()
            except BaseException as exc:
                dispatch.failed(self, protocol, "get_buffer", exc)
                return
            rest = rest[size:]
            dispatch.call(self, protocol, "buffer_updated", size)
        if rest:
            self.on_data(bytes(rest))

    def _fills(self, protocol: AnyProtocol) -> bool:
        return (
            self._state == OPEN
            and not self._hold
            and self._verb is None
            and self._protocol is protocol
        )

    def _deliver_kept(self) -> None:
        """Deliver what came while reading was held; then let C read on."""
        while self._kept and not self._hold and self._state == OPEN:
            kept, self._kept = self._kept, None
            data = kept.pop(0)
            if data:
                self.on_data(data)
            else:
                self._eof_received()
            # what was delivered may have been held back again: it comes before the rest
            self._kept = (self._kept or []) + kept
        if not self._hold:
            self._kept = None
            self.hold_in_c(False)

    # -- writing

    def write(self, data: Bytes) -> None:
        # Each message pays for every instruction here: super() alone costs as much as all the rest.
        if not self._plain or type(data) is not bytes:
            super().write(data)
            return
        engine, size = self._engine, len(data)
        if get_ident() != engine.owner:
            engine.refuse_thread("write()")
        if size <= SMALL:
            parts = engine.parts
            parts += (self._head, SIZES[size], data)
            if len(parts) >= engine.look_at:
                engine.look()
            return
        if engine.parts:
            self._cross()
        queued = engine.send(engine.loop, self._slot, self._generation, data, size)
        if queued:
            self.sent(queued)

    def _put(self, data: Bytes) -> None:
        self._cross()
        engine = self._engine
        if type(data) is not bytes:
            if isinstance(data, memoryview) and not data.c_contiguous:
                data = data.tobytes()
            data = engine.ffi.from_buffer(data)
        self.sent(engine.send(engine.loop, self._slot, self._generation, data, len(data)))

    def sent(self, queued: int) -> None:
        """Hear what C says to a write: how much is queued now, or why it did nothing."""
        if queued > 0:
            self._plain = False
            if self._state != LOST:
                self._grown(queued)
        elif queued == -errno.EPERM:
            self._engine.refuse_thread("write()")

    def _cross(self) -> None:
        """Let its gathered writes cross into C, and all others with them."""
        engine = self._engine
        # To look for its own costs less than a crossing, as long as there are few
        if engine.parts and (len(engine.parts) > FEW or self._head in engine.parts):
            engine.flush()

    def _find_plain(self) -> None:
        self._plain = (
            self._state == OPEN
            and self._verb is None
            and not self._eof_written
            and self._high >= SAFE
            and not self.get_write_buffer_size()
        )

    def write_eof(self) -> None:
        super().write_eof()
        self._plain = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        marks = mark(self._high), mark(self._low)
        self._engine.lib.mux_marks(self._engine.loop, self._slot, self._generation, *marks)
        self._find_plain()

    def get_write_buffer_size(self) -> int:
        if get_ident() == self._engine.owner:
            self._cross()
        return super().get_write_buffer_size()

    def _shutdown_write(self) -> None:
        self._engine.lib.mux_write_eof(self._engine.loop, self._slot, self._generation)

    # -- the end

    def close(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("close()")
        if self._state == OPEN:
            self._state = CLOSING
            self._plain = False
            self._hold = self._hold & (HOLD_EOF | HOLD_FIRST) | HOLD_CLOSING
            if self._peer is not None:
                self._peer.close()
            self._cross()
            self._close_in_c()

    def _drop(self, exc: BaseException | None) -> None:
        self._reason = exc
        self._plain = False
        self._cross()  # asyncio too delivers write(b"hello"); abort()
        self._abort_in_c(exc)

    def _reset_at_close(self) -> None:
        """C does, where ``_drop`` says so, or the network has."""

    def lost(
        self, error: int, received: int = 0, sent: int = 0, first: int = 0, answered: int = 0
    ) -> None:
        """Deliver ``connection_lost``; what refers to the protocol goes too.

        Args:
            error: why C ended it: an errno, MUX_IDLE and the like, or 0.
            received, sent: bytes of its life.
            first: not 0: its peer ended a relay before the other side did.
            answered: when the other side's first byte came, as C says it; 0: never.
        """
        self._cross()  # its slot may be another's when they would
        exc = self._ended(self._reason, error)
        self._totals = received, sent, answered
        peer, self._peer = self._peer, None
        if isinstance(peer, Joining):  # it was to be joined: nobody waits any more
            peer.close()
        self._state = LOST
        self._hold |= HOLD_CLOSING | (HOLD_FIRST if first else 0)
        self._plain = False
        self._kept = None
        try:
            dispatch.lost(self, self._protocol, exc)
        finally:
            self._protocol = self._reason = None  # they may refer to this object: no cycle is left
            self._release()

    def to_its_end(self) -> ToItsEnd:
        if self._state != OPEN or self._verb is not Verb.RELAY or self._peer is not None:
            return self
        joined = NativeJoined(self)
        if (witness := self._engine.witnesses.pop(self, None)) is not None:
            self._engine.witnesses[joined] = witness
        self._engine.set_transport(self._slot, joined)
        return joined

    # -- for the base class

    def _reading_changed(self) -> None:
        if self._state != OPEN:
            return
        if not self._hold and self._kept is not None:
            self._engine.call_soon(self._deliver_kept)  # never within resume_reading()
        elif self._hold != HOLD_EOF:
            self.hold_in_c(bool(self._hold))

    def hold_in_c(self, on: bool) -> None:
        self._engine.lib.mux_hold(self._engine.loop, self._slot, self._generation, on)

    def _counted(self) -> tuple[int, int]:
        if self._totals is not None:
            return self._totals[:2]
        self._cross()
        return self._counted_in_c()

    def answered_after(self, began: float) -> float | None:
        if self._totals is None or not self._totals[2]:
            return None
        ticks = (self._totals[2] - int(began * TICKS)) % 2**32
        return ticks / TICKS if ticks < 2**31 else 0.0  # a tick's rounding

    def _over(self) -> bool:
        return self._totals is not None

    # -- for the engine

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, and begin the service's verb if it has one."""
        dispatch.call(self, self._protocol, "connection_made", self)
        self._begin_declared(verb)
        if self._engine.draining:
            self.tell_draining()
