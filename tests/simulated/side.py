"""The Python side: protocols that hear of everything, and do what a program may at any moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from muxcore.errors import (
    BufferLimitExceeded,
    CloseTimeout,
    ConnectTimeout,
    HalfCloseTimeout,
    IdleTimeout,
    Stopped,
)
from muxcore.protocol import Verb

from .model import Conn

if TYPE_CHECKING:
    from .run import Run

_TIMEOUTS = (IdleTimeout, CloseTimeout, HalfCloseTimeout, BufferLimitExceeded)


class Side:
    """A protocol that can be sent to faster than it is told."""

    def __init__(self, run: Run, conn: Conn | None = None) -> None:
        self.run = run
        self.conn = conn

    # -- callbacks

    def connection_made(self, transport: Any) -> None:
        conn = self.run.opened(self, transport)
        if conn is None:
            return
        if conn.made or conn.lost:
            self.run.fail("order", f"connection {conn.number} is made twice")
        conn.made = True
        self.run.react(conn, "connection_made")

    def connection_lost(self, exc: BaseException | None) -> None:
        conn = self.conn
        if conn is None:  # an outgoing one that did not come about, and was never known
            return
        self.run.told(conn, "connection_lost", exc)
        if conn.lost or conn.side is not self:
            self.run.fail("order", f"connection {conn.number} is lost twice")
        conn.lost, conn.why = True, exc
        reason = unjustified(self.run, conn, exc)
        if reason:
            self.run.fail("reason", f"connection {conn.number} is lost by {exc!r}: {reason}")
        if exc is not None:
            exc.__traceback__ = None  # it would hold the transport
        conn.transport = None
        self.run.react(conn, "connection_lost")

    def eof_received(self) -> bool:
        conn = self._hears("eof_received")
        if conn is None:
            return False
        if conn.eof:
            self.run.fail("order", f"connection {conn.number} hears EOF twice")
        if not conn.fin or conn.seen != len(conn.sent):
            self.run.fail("bytes", f"connection {conn.number}: EOF after {conn.seen} bytes")
        conn.eof = True
        # the answer comes first: what a reaction below does is no part of it
        conn.stays = bool(self.run.chance.randrange(3))
        self.run.react(conn, "eof_received")
        if not conn.stays:
            conn.end_now()
        return conn.stays

    def _hears(self, callback: str) -> Conn | None:
        """Return the connection, if this may be called now."""
        conn, fail = self.conn, self.run.fail
        if conn is None or not conn.made:
            fail("order", f"{callback} before connection_made")
            return None
        self.run.told(conn, callback)
        if conn.lost or conn.side is not self:
            late = "connection_lost" if conn.lost else "set_protocol"
            fail("order", f"connection {conn.number}: {callback} after {late}")
        elif conn.verb:
            fail("order", f"connection {conn.number}: {callback} under {conn.verb}")
        elif conn.aborted:
            fail("order", f"connection {conn.number}: {callback} after abort")
        elif callback in ("data_received", "get_buffer", "buffer_updated", "eof_received"):
            if conn.ended:
                fail("order", f"connection {conn.number}: {callback} after close")
            if conn.held:
                fail("order", f"connection {conn.number}: {callback} while paused")
            if conn.eof:
                fail("order", f"connection {conn.number}: {callback} after EOF")
        return conn

    def sees(self, conn: Conn, data: bytes) -> None:
        if not data or conn.sent[conn.seen : conn.seen + len(data)] != data:
            at = f"{len(data)} bytes at {conn.seen} of {len(conn.sent)}"
            self.run.fail("bytes", f"connection {conn.number}: {at} are not those sent")
        conn.seen += len(data)


class Receiving(Side):
    def data_received(self, data: bytes) -> None:
        conn = self._hears("data_received")
        if conn is not None:
            self.sees(conn, data)
            self.run.react(conn, "data_received")


class Waiting(Side):
    """A protocol that hears of its write buffer."""

    def pause_writing(self) -> None:
        conn = self._hears("pause_writing")
        if conn is None:
            return
        if conn.waits:
            self.run.fail("order", f"connection {conn.number}: pause_writing twice")
        conn.waits = True
        size = conn.transport.get_write_buffer_size()
        if size <= conn.transport.get_write_buffer_limits()[1]:
            self.run.fail("marks", f"connection {conn.number}: pause_writing at {size} bytes")
        self.run.react(conn, "pause_writing")

    def resume_writing(self) -> None:
        conn = self._hears("resume_writing")
        if conn is None:
            return
        if conn.waits is False:
            self.run.fail("order", f"connection {conn.number}: resume_writing, and no pause")
        conn.waits = False
        size = conn.transport.get_write_buffer_size()
        if size > conn.transport.get_write_buffer_limits()[0]:
            self.run.fail("marks", f"connection {conn.number}: resume_writing at {size} bytes")
        self.run.react(conn, "resume_writing")


class Pausing(Receiving, Waiting):
    pass


class Buffered(Waiting):
    """A protocol with buffers of its own, which it changes as soon as it may."""

    def __init__(self, run: Run, conn: Conn | None = None) -> None:
        super().__init__(run, conn)
        self.buffer = bytearray()

    def get_buffer(self, sizehint: int) -> Any:
        conn = self._hears("get_buffer")
        self.buffer = bytearray(1 + self.run.chance.randrange(700))
        if conn is not None:
            self.run.react(conn, "get_buffer")
        return self.buffer if self.run.chance.randrange(2) else memoryview(self.buffer)

    def buffer_updated(self, size: int) -> None:
        conn = self._hears("buffer_updated")
        if conn is None:
            return
        self.sees(conn, bytes(self.buffer[:size]))
        del self.buffer[size // 2 :]  # BufferError if somebody still looks at it
        self.run.react(conn, "buffer_updated")


class Echoing(Side):
    verb = Verb.ECHO


class Discarding(Side):
    verb = Verb.DISCARD


KINDS = (Receiving, Pausing, Buffered, Pausing, Echoing, Discarding)


def unjustified(run: Run, conn: Conn, exc: BaseException | None) -> str:
    """Return why an end cannot be what happened, or nothing."""
    peer = conn.peer
    if exc is None:
        if conn.ended or conn.aborted or run.ending:
            return ""
        if conn.verb in ("echo", "discard") and conn.fin:
            return ""
        if conn.verb == "relay" and peer is not None:
            if conn.fin and peer.fin:
                return ""
            if peer.lost or peer.ended or peer.aborted:
                return ""
            if conn.aborted or not peer.made:
                return ""
        return "nobody has ended it"
    if isinstance(exc, _TIMEOUTS):
        return "" if run.may_time_out(exc) else "there is no such limit"
    if isinstance(exc, Stopped):
        return "" if run.ending else "it is no time to stop anybody"
    if conn.raised or conn.broken():
        return ""
    if conn.outgoing and not conn.made:
        return ""  # it was never connected
    if conn.verb == "relay":
        if isinstance(exc, ConnectTimeout) or peer is None or peer.end is None:
            return ""
        if peer.broken() or (peer.why is not None):
            return ""
    return "nothing has broken it"


def an_error(run: Run) -> BaseException:
    """Return what a callback is to raise."""
    kinds = (ValueError, OSError, asyncio.CancelledError, BrokenPipeError, GeneratorExit)
    return run.chance.choice(kinds)("planned")
