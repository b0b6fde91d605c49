"""What every engine's transport has in common: the rules of the contract, without the bytes.

This file decides *whether* (may this be written, is reading on, is the protocol to pause); an
engine's own transport knows *how* and fills in the six methods at the end. asyncio's rules hold
throughout; the three stricter ones are listed in ``protocol.py``.

A connection's state only ever grows::

    OPEN ── close() ──► CLOSING ── all is sent ──► LOST      (connection_lost comes, or came)
      └──── abort(), an error ────────────────────►┘

Reading is on while no reason holds it (``_hold`` is 0): the user's ``pause_reading``, a backlog of
unsent bytes, the peer's EOF, and the way from ``close()`` to the end are reasons of their own, so
that lifting one never lifts another.
"""

from __future__ import annotations

import abc
import socket
from collections.abc import Iterable
from typing import Any

from muxcore import dispatch
from muxcore.errors import BufferLimitExceeded, IdleTimeout
from muxcore.protocol import Bytes, Verb, handles

OPEN, CLOSING, LOST = range(3)

HOLD_USER = 1  # pause_reading()
HOLD_BACKLOG = 2  # the write buffer is above high water, and nobody else stops the peer
HOLD_EOF = 4  # the peer has sent EOF
HOLD_CLOSING = 8  # close() was called, or the connection is lost


class BaseTransport(abc.ABC):
    """The contract of one connection, for an engine's transport to complete.

    Args:
        engine: the engine; its ``limits``, ``server`` and ``name`` are read.
        protocol: what the service returned.
        peername: the peer's socket address, recorded now.
    """

    __slots__ = (
        "__weakref__",
        "_choked",
        "_engine",
        "_eof_written",
        "_high",
        "_hold",
        "_low",
        "_on_data",
        "_peername",
        "_protocol",
        "_state",
        "_verb",
    )

    def __init__(self, engine: Any, protocol: Any, peername: Any) -> None:
        self._engine = engine
        self._peername = peername
        self._state = OPEN
        self._hold = 0
        self._verb: Verb | None = None
        self._eof_written = False
        self._choked = False  # above high water, and not yet at low water again
        self._high: int = engine.limits.write_high
        self._low: int = engine.limits.write_low
        self.set_protocol(protocol)

    def __repr__(self) -> str:
        state = ("open", "closing", "lost")[self._state]
        verb = f" {self._verb.value}" if self._verb else ""
        return f"<{type(self).__name__} {state}{verb} peer={self._peername!r}>"

    # -- what is known of it

    @property
    def server(self) -> Any:
        return self._engine.server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peername
        if name == "engine":
            return self._engine.name
        if name == "bytes":
            return self._counted()
        if name == "sockname":
            sock = self._socket()
            try:
                return sock.getsockname() if sock is not None else default
            except OSError:
                return default
        if name == "socket":
            return self._socket()
        return default

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        if self._verb is not None:
            return  # it hears connection_lost, and no data
        self._on_data = getattr(protocol, "data_received", None)
        if self._on_data is None and not hasattr(protocol, "get_buffer"):
            self._on_data = _no_callback  # None stands for a BufferedProtocol

    # -- reading

    def is_reading(self) -> bool:
        return not self._hold & (HOLD_USER | HOLD_CLOSING)

    def pause_reading(self) -> None:
        if self._state == OPEN and self._verb is None:
            self._set_hold(HOLD_USER)

    def resume_reading(self) -> None:
        if self._state == OPEN:
            self._clear_hold(HOLD_USER)

    # -- writing

    def write(self, data: Bytes) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"write() needs a bytes-like object, not {type(data).__name__}")
        if self._verb is not None:
            raise RuntimeError(
                f"write() after {self._verb.value}(): the engine moves the bytes now"
            )
        if self._eof_written:
            raise RuntimeError("write() after write_eof()")
        if data and self._state == OPEN:
            self._put(data)

    def writelines(self, lines: Iterable[Bytes]) -> None:
        self.write(b"".join(lines))

    def write_eof(self) -> None:
        if self._verb is not None:
            raise RuntimeError(
                f"write_eof() after {self._verb.value}(): the engine moves the bytes now"
            )
        if self._state == OPEN and not self._eof_written:
            self._eof_written = True
            if not self.get_write_buffer_size():
                self._shutdown_write()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = self._engine.limits.write_high if low is None else 4 * low  # asyncio's ratio
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        if self._state == OPEN:
            self._grown(self.get_write_buffer_size())

    # -- the end

    def is_closing(self) -> bool:
        return self._state != OPEN

    def close(self) -> None:
        if self._state != OPEN:
            return
        self._state = CLOSING
        self._set_hold(HOLD_CLOSING)
        if not self.get_write_buffer_size():
            self._fail(None)

    def abort(self) -> None:
        self._fail(None)

    def _fail(self, exc: BaseException | None) -> None:
        """Go to LOST: drop what is queued; ``connection_lost(exc)`` follows soon."""
        if self._state != LOST:
            self._state = LOST
            self._hold |= HOLD_CLOSING
            self._drop(exc)

    def _idle(self, seconds: float) -> None:
        """The idle deadline has passed."""
        self._fail(IdleTimeout(seconds))

    # -- verbs

    def echo(self) -> None:
        self._begin(Verb.ECHO)

    def discard(self) -> None:
        self._begin(Verb.DISCARD)

    def relay(
        self, peer: Any, *, first: Bytes = b"", back: Bytes = b"", timeout: float | None = None
    ) -> None:
        self._engine.need("relay")

    def _begin(self, verb: Verb) -> None:
        """Hand the connection over: lift the user's pause, and let the engine have the bytes."""
        if self._state != OPEN:
            raise ValueError(f"{verb.value}(): the connection is closing")
        if self._verb is not None:
            raise ValueError(
                f"{verb.value}(): the connection is under {self._verb.value}() already"
            )
        if self._eof_written:
            raise ValueError(f"{verb.value}(): EOF was sent already")
        self._verb = verb
        if self._choked:
            self._hold |= HOLD_BACKLOG
        self._verb_begun(verb)
        self._clear_hold(HOLD_USER)
        if self._hold & HOLD_EOF:  # it was heard before the verb: answer it now
            self.close()

    # -- for an engine's transport to call

    def _eof_received(self) -> None:
        """The peer has sent EOF: ask the protocol whether this side stays open."""
        self._set_hold(HOLD_EOF)
        if self._verb is not None or not dispatch.call(self, self._protocol, "eof_received"):
            self.close()

    def _grown(self, size: int) -> None:
        """The write buffer has grown to ``size``: pause who fills it, or give the peer up."""
        if size > self._engine.limits.write_buffer:
            self._fail(BufferLimitExceeded(size, self._engine.limits.write_buffer))
        elif size > self._high and not self._choked:
            self._choked = True
            if self._verb is not None or not handles(self._protocol, "pause_writing"):
                self._set_hold(HOLD_BACKLOG)
            else:
                dispatch.call(self, self._protocol, "pause_writing")

    def _shrunk(self, size: int) -> None:
        """The write buffer has shrunk to ``size``: let who was paused go on, or finish."""
        if self._choked and size <= self._low:
            self._choked = False
            if self._hold & HOLD_BACKLOG:
                self._clear_hold(HOLD_BACKLOG)
            elif self._verb is None:
                dispatch.call(self, self._protocol, "resume_writing")
        # asked again: what resume_writing wrote has to go first
        if self._state != LOST and not self.get_write_buffer_size():
            if self._state == CLOSING:
                self._fail(None)
            elif self._eof_written:
                self._shutdown_write()

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
    def _counted(self) -> tuple[int, int]:
        """Return (bytes received, bytes sent)."""

    @abc.abstractmethod
    def _socket(self) -> TransportSocket | None: ...


class TransportSocket:
    """A connection's socket for reading its names and setting its options; it cannot be closed."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __repr__(self) -> str:
        return f"<TransportSocket fd={self.fileno()}>"

    @property
    def family(self) -> int:
        return self._sock.family

    @property
    def type(self) -> int:
        return self._sock.type

    @property
    def proto(self) -> int:
        return self._sock.proto

    def fileno(self) -> int:
        return self._sock.fileno()

    def dup(self) -> socket.socket:
        return self._sock.dup()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def getsockopt(self, *args: Any) -> Any:
        return self._sock.getsockopt(*args)

    def setsockopt(self, *args: Any) -> None:
        self._sock.setsockopt(*args)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)


def _no_callback(data: bytes) -> None:
    """Stand in for a ``data_received`` that the protocol does not have."""
