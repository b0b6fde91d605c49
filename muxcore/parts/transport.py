"""What every engine's transport has in common: the rules of the contract, without the bytes.

This file decides *whether* (may this be written, is reading on, is the protocol to pause); an
engine's own transport knows *how* and fills in the methods at the end. asyncio's rules hold
throughout; where they are stricter is listed in ``protocol.py``.

A connection's state only ever grows::

    OPEN ── close() ──► CLOSING ── all is sent ──► LOST      (connection_lost comes, or came)
      └──── abort(), an error ────────────────────►┘

Bytes are delivered while no reason holds them (``_hold`` is 0): the user's ``pause_reading``, a
backlog of unsent bytes, the peer's EOF, and the way from ``close()`` to the end are reasons of
their own, so that lifting one never lifts another. On the way to the end alone (``HOLD_CLOSING``)
they are still received, and dropped: what lies unread at close(2) makes it a reset, which overtakes
the last bytes sent (RFC 1122, 4.2.2.13).
"""

from __future__ import annotations

import abc
import contextlib
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from threading import get_ident
from typing import Any

from muxcore.abc import Engine
from muxcore.errors import (
    BufferLimitExceeded,
    CloseTimeout,
    FirstByteTimeout,
    HalfCloseTimeout,
    IdleTimeout,
    PairCut,
)
from muxcore.parts import dispatch
from muxcore.parts.known import ToItsEnd
from muxcore.parts.relay import Relaying
from muxcore.parts.states import (
    CLOSING,
    HOLD_BACKLOG,
    HOLD_CLOSING,
    HOLD_EOF,
    HOLD_FIRST,
    HOLD_USER,
    LOST,
    OPEN,
)
from muxcore.parts.verbs import BYTES
from muxcore.protocol import AnyProtocol, Bytes, Verb, handles

RESET = struct.pack("ii", 1, 0)  # struct linger: close() drops what is queued and sends RST

# Ends that are a peer's who does not read: a FIN would wait behind up to 4 MB in the kernel (the
# default of tcp_wmem), for minutes
ENDS_BY_RESET = (
    BufferLimitExceeded,
    CloseTimeout,
    FirstByteTimeout,
    HalfCloseTimeout,
    IdleTimeout,
    PairCut,
)


class BaseTransport(Relaying, ToItsEnd):
    """The contract of one connection, for an engine's transport to complete.

    Args:
        engine: the engine; its ``limits``, ``server`` and ``name`` are read.
        protocol: what the service returned.
        peername: the peer's socket address, recorded now.
    """

    __slots__ = (
        "__weakref__",
        "_buffered",
        "_on_data",
        "_protocol",
    )

    def __init__(self, engine: Engine, protocol: AnyProtocol, peername: Any) -> None:
        self._engine = engine
        self._peername = peername
        self._state = OPEN
        self._hold = 0
        self._verb = None
        self._on_data: Callable[[bytes], object] | None = None  # what a verb does with bytes
        self._buffered = False  # the protocol has buffers of its own (a BufferedProtocol)
        self._peer = None
        self._eof_written = False
        self._choked = False  # above high water, and not yet at low water again
        self._high = engine.limits.write_high
        self._low = engine.limits.write_low
        self.set_protocol(protocol)

    def __repr__(self) -> str:
        state = ("open", "closing", "lost")[self._state]
        verb = f" {self._verb.value}" if self._verb else ""
        return f"<{type(self).__name__} {state}{verb} peer={self.get_extra_info('peername')!r}>"

    # -- what is known of it

    def get_protocol(self) -> AnyProtocol:
        return self._protocol

    def set_protocol(self, protocol: AnyProtocol) -> None:
        """Let another object hear of the connection from now on.

        Its callbacks are looked up at each call, as asyncio does: a protocol may change
        ``self.data_received``. What it may not change is whether it brings its own buffers.
        """
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("set_protocol()")
        self._protocol = protocol
        self._buffered = hasattr(protocol, "get_buffer") and not hasattr(protocol, "data_received")

    def ended_first(self) -> bool:
        return bool(self._hold & HOLD_FIRST)

    def to_its_end(self) -> ToItsEnd:
        """Return what stands for it from now on, where nobody asks more: itself, or something less.

        Under a relay, and only once nobody else has the transport.
        """
        return self

    # -- reading

    def is_reading(self) -> bool:
        return not self._hold & (HOLD_USER | HOLD_CLOSING)

    def pause_reading(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("pause_reading()")
        if self._state == OPEN and self._verb is None:
            self._set_hold(HOLD_USER)

    def resume_reading(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("resume_reading()")
        if self._state == OPEN:
            self._clear_hold(HOLD_USER)

    # -- writing

    def write(self, data: Bytes) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("write()")
        if self._verb is not None or self._eof_written or not isinstance(data, BYTES):
            self._refuse_write(data)
        if data and self._state == OPEN:
            self._put(data)

    def _end_writing(self) -> None:
        if not self.get_write_buffer_size():
            self._shutdown_write()

    def _marks_changed(self) -> None:
        self._grown(self.get_write_buffer_size())

    # -- the end

    def is_closing(self) -> bool:
        return self._state != OPEN

    def has_ended(self) -> bool:
        return self._state == LOST

    def close(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("close()")
        if self._state != OPEN:
            return
        self._state = CLOSING
        self._hold = self._hold & (HOLD_EOF | HOLD_FIRST) | HOLD_CLOSING  # what comes is dropped
        self._reading_changed()
        if self._peer is not None:
            self._peer.close()
        if self._state == CLOSING and not self.get_write_buffer_size():
            self._finish()

    def _finish(self) -> None:
        """All is sent after a close: go to LOST. An engine that can lets it linger."""
        self._fail(None)

    def _fail(self, exc: BaseException | None) -> None:
        """Go to LOST."""
        if self._state != LOST:
            if isinstance(exc, ENDS_BY_RESET):
                self._reset_at_close()
            self._state = LOST
            self._hold |= HOLD_CLOSING
            peer, self._peer = self._peer, None
            self._drop(exc)
            if peer is not None:
                peer._orphaned(exc)

    def _reset_at_close(self) -> None:
        if (sock := self._socket()) is not None:
            with contextlib.suppress(OSError):  # somebody else closed it
                sock.setsockopt(SOL_SOCKET, SO_LINGER, RESET)

    def _idle(self, seconds: float) -> None:
        """The idle deadline has passed."""
        self._fail(IdleTimeout(seconds))

    def _begin(self, verb: Verb) -> None:
        self._verb = verb
        if self._choked:
            self._set_hold(HOLD_BACKLOG)
        self._verb_begun(verb)
        self._clear_hold(HOLD_USER)
        if self._hold & HOLD_EOF:  # it was heard before the verb: answer it now
            self.close()

    # -- what asyncio's own TLS asks of a transport

    _start_tls_compatible = True

    def _force_close(self, exc: BaseException | None) -> None:
        self._fail(exc)

    # -- for an engine's transport to call

    def _eof_received(self) -> None:
        """The peer has sent EOF: ask the protocol whether this side stays open."""
        self._set_hold(HOLD_EOF)
        if self._verb is Verb.RELAY:
            self._pass_on_eof()
        elif self._verb is not None or not dispatch.call(self, self._protocol, "eof_received"):
            self.close()

    def _grown(self, size: int) -> None:
        """The write buffer has grown to ``size``: pause who fills it, or give the peer up."""
        self._keep_cap(size)
        if size > self._high and not self._choked and self._state != LOST:
            self._choked = True
            if self._verb is not None or not handles(self._protocol, "pause_writing"):
                self._partner()._set_hold(HOLD_BACKLOG)
            else:
                dispatch.call(self, self._protocol, "pause_writing")

    def _keep_cap(self, size: int) -> None:
        if size > self._engine.limits.write_buffer:
            self._fail(BufferLimitExceeded(size, self._engine.limits.write_buffer))

    def _shrunk(self, size: int) -> None:
        """The write buffer has shrunk to ``size``: let who was paused go on, or finish."""
        ending = self._eof_written  # else a callback below may send EOF, and does so itself
        if self._choked and size <= self._low:
            self._choked = False
            feeder = self._partner()
            if feeder._hold & HOLD_BACKLOG:
                feeder._clear_hold(HOLD_BACKLOG)
            elif self._verb is None:
                dispatch.call(self, self._protocol, "resume_writing")
        # asked again: what resume_writing wrote has to go first
        if self._state != LOST and not self.get_write_buffer_size():
            if self._state == CLOSING:
                self._finish()
            elif ending:
                self._shutdown_write()
                if self._peer is not None:
                    self._end_if_both_have()

    def _set_hold(self, reason: int) -> None:
        before, self._hold = self._hold, self._hold | reason
        if not before:
            self._reading_changed()

    def _clear_hold(self, reason: int) -> None:
        before, self._hold = self._hold, self._hold & ~reason
        if before and not self._hold:
            self._reading_changed()

    # -- for an engine's transport to fill in

    @abc.abstractmethod
    def get_write_buffer_size(self) -> int: ...

    @abc.abstractmethod
    def _put(self, data: Bytes) -> None:
        """Send ``data`` or queue it; call ``_grown`` if some was queued."""

    @abc.abstractmethod
    def _shutdown_write(self) -> None:
        """Send EOF: nothing is queued any more."""

    @abc.abstractmethod
    def _drop(self, exc: BaseException | None) -> None:
        """Forget queue and events at once; deliver ``connection_lost(exc)`` and close, soon."""

    @abc.abstractmethod
    def _reading_changed(self) -> None:
        """``_hold`` has become zero, or is zero no longer."""

    @abc.abstractmethod
    def _verb_begun(self, verb: Verb) -> None:
        """From the next byte on the engine moves the bytes."""

    @abc.abstractmethod
    def _half_closed(self) -> None:
        """One direction of a relay has ended: watch ``Limits.half_close_timeout``."""
