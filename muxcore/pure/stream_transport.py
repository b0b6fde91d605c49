"""One non-blocking connection of the pure engines: its receives, its sends and its end.

One receive a turn is fairest: the next wait tells of what is left. (Under an edge trigger it would
not: see ``epoll_engine.py``.)

A descriptor may be blocking although the engine made it non-blocking (somebody's ``dup()`` shares
the flag), so every call says MSG_DONTWAIT. And it may be closed by somebody else: its number is
then another's, and is not closed a second time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from socket import MSG_DONTWAIT
from threading import get_ident
from time import monotonic
from typing import Any

from muxcore.parts import dispatch
from muxcore.parts.states import (
    CLOSING,
    HOLD_BACKLOG,
    HOLD_CLOSING,
    HOLD_CONNECT,
    HOLD_EOF,
    HOLD_RATE,
    HOLD_USER,
    LOST,
    OPEN,
)
from muxcore.parts.transport_socket import TransportSocket
from muxcore.protocol import AnyProtocol, Bytes, Verb
from muxcore.pure.poller import ANYTHING, ERROR, READ, WRITE
from muxcore.pure.rated import Rated
from muxcore.pure.send_queue import SendQueue
from muxcore.pure.watching_loop import WatchingLoop

# Of one connection in one turn: each takes what the kernel's buffer has room for, up to 4 MB, and a
# peer that reads as fast as we send would have the loop to itself
_SENDS_PER_TURN = 4

# What a call says of a descriptor that somebody else closed: nothing is there, or something else
_NOT_OURS = frozenset({errno.EBADF, errno.ENOTSOCK, errno.ENOENT})


class StreamTransport(Rated):
    """A connection served by readiness.

    Args:
        engine: the readiness engine.
        sock: the connection, non-blocking.
        protocol: what the service returned.
        peername: the peer's socket address.

    Attributes:
        fd: the socket's descriptor, also when somebody else has closed it.
    """

    __slots__ = (
        "_answered_at",
        "_bytes_in",
        "_bytes_out",
        "_lingers",
        "_queue",
        "_sock",
        "_unread",
        "fd",
    )

    def __init__(
        self, engine: WatchingLoop, sock: socket.socket, protocol: AnyProtocol, peername: Any
    ) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self._queue = SendQueue()
        self._bytes_in = 0
        self._bytes_out = 0
        self._answered_at = 0.0  # the first byte of a relay's other side
        self._unread = True  # there may be input; a short receive proves that there is none
        self._lingers = False
        super().__init__(engine, protocol, peername)

    # -- events

    def on_event(self, events: int) -> None:
        if events == READ:
            self.read(events)
        elif events & ERROR and self._hold & ~HOLD_CLOSING and not self._queue.size:
            self._heard_error()
        else:
            if events != WRITE:
                self._unread = True  # the flush may end it, and the wait told of input
            if events & ~READ and self._queue.size:
                self._flush()
            if events != WRITE:
                self.read(events)

    def go_on(self) -> None:
        """Send and receive what can be, without an event."""
        if self._queue.size:
            self._flush()
        if self._state != LOST:
            self.read(ANYTHING)

    def read(self, events: int) -> None:
        """Receive once, unless reading is held.

        Args:
            events: what the kernel says of the connection.
        """
        if self._hold and (self._hold != HOLD_CLOSING or self._state == LOST):
            if not self._hold & HOLD_EOF:
                self._unread = True  # it was told of, and is left
        elif room := self._engine.limits.read_chunk if self._limited is None else self._room():
            self._receive(room)

    def _receive(self, chunk: int) -> int:
        """Receive once and deliver; return the bytes received, or -1 when there is no more now."""
        if self._buffered and self._verb is None and self._state == OPEN:
            return self._receive_into(chunk)
        try:
            data = self._sock.recv(chunk, MSG_DONTWAIT)
        except OSError as exc:
            return self._not_received(exc)
        size = len(data)
        if not size:
            return self._ended()
        self._unread = size == chunk
        engine = self._engine
        if engine.clocked:
            self._moved_at = monotonic()
        self._bytes_in += size
        engine.counters.bytes_in += size
        if self._limited is not None:
            self._limited.spend(size)
        if self._state != OPEN:
            return size  # it was closed: what comes is dropped
        try:
            on_data = self._on_data or getattr(self._protocol, "data_received", None)
            if on_data is not None:
                on_data(data)
        except BaseException as exc:
            dispatch.failed(self, self._protocol, "data_received", exc)
        return size

    def _receive_into(self, chunk: int) -> int:
        """Receive once into a BufferedProtocol's own buffer."""
        protocol = self._protocol
        try:
            buffer = memoryview(protocol.get_buffer(-1)).cast("B")
            room = len(buffer) if self._limited is None else min(chunk, len(buffer))
            if not room:
                raise RuntimeError("get_buffer() returned an empty buffer")
            if buffer.readonly:
                raise TypeError("get_buffer() returned a read-only buffer")
        except BaseException as exc:
            dispatch.failed(self, protocol, "get_buffer", exc)
            return -1
        if self._hold or self._verb is not None or self._protocol is not protocol:
            self._unread = True  # it was told of, and is left
            return chunk  # get_buffer() changed the connection: begin again
        try:
            size = self._sock.recv_into(buffer, room, MSG_DONTWAIT)
        except OSError as exc:
            return self._not_received(exc)
        finally:
            buffer.release()  # the protocol may resize it in buffer_updated()
        if not size:
            return self._ended()
        self._unread = size == room
        engine = self._engine
        if engine.clocked:
            self._moved_at = monotonic()
        self._bytes_in += size
        engine.counters.bytes_in += size
        if self._limited is not None:
            self._limited.spend(size)
        dispatch.call(self, protocol, "buffer_updated", size)
        return size if size < room else chunk

    def _not_received(self, exc: OSError) -> int:
        if isinstance(exc, BlockingIOError):
            self._unread = False
            if self._limited is not None:
                self._limited.spend(0)
        else:
            self.broken(exc)
        return -1

    def _ended(self) -> int:
        """The peer's EOF."""
        self._unread = False
        if self._state == OPEN:
            self._eof_received()
        else:
            self._hold |= HOLD_EOF
            self._update_interest()
        return -1

    def _heard_error(self) -> None:
        """The connection broke while nobody reads it; what it had received is gone with it."""
        try:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as exc:
            self.broken(exc)
            return
        if number == errno.EPIPE:
            number = errno.ECONNRESET  # so Linux calls a reset that comes after the peer's FIN
        if number:
            self._fail(OSError(number, os.strerror(number)))

    def broken(self, exc: OSError) -> None:
        """End by what a system call said."""
        self._forget_number(exc)
        self._fail(exc.with_traceback(None))  # its frames hold what write() was given

    def _forget_number(self, exc: OSError) -> None:
        if exc.errno in _NOT_OURS:
            self._sock.detach()  # somebody else closed it: the number may be another's by now

    def disowned(self) -> None:
        """End: the descriptor's number has come up again, so somebody else closed it."""
        self.broken(OSError(errno.EBADF, "something in this process closed the descriptor"))

    # -- sending

    def get_write_buffer_size(self) -> int:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("get_write_buffer_size()")
        return self._queue.size

    def _put(self, data: Bytes) -> None:
        """Send at once what the kernel takes; queue the rest, and wait for it to be writable."""
        if isinstance(data, memoryview):
            data = data.cast("B") if data.c_contiguous else data.tobytes()
        queue = self._queue
        sent, first = 0, not queue.size
        if first:
            sent = self._sent([data])
            if sent < 0 or sent == len(data):
                return
        queue.add(data, sent)
        self._grown(queue.size)
        if first and self._state != LOST:
            self._update_interest()

    def _flush(self) -> None:
        """Send from the queue until it is empty, the kernel is full or the budget is spent."""
        queue = self._queue
        for _ in range(_SENDS_PER_TURN):
            sent = self._sent(queue.parts())
            if sent <= 0:
                break
            queue.drop(sent)
            if self._state == CLOSING:
                self._taken_at = monotonic()  # for the deadline of a close
            if not queue.size:
                break
        else:
            self._engine.left_over(self.go_on)
        if self._state != LOST:
            self._shrunk(queue.size)
        if self._state != LOST and not queue.size:
            self._update_interest()

    def _sent(self, parts: list[Any]) -> int:
        """Send once; return the bytes the kernel took, or -1 when the connection failed."""
        try:
            if len(parts) == 1:
                sent = self._sock.send(parts[0], MSG_DONTWAIT)
            else:
                sent = self._sock.sendmsg(parts, (), MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as exc:
            self.broken(exc)
            return -1
        engine = self._engine
        if engine.clocked:
            self._moved_at = monotonic()
        if not self._answered_at and self._verb is Verb.RELAY:
            self._answered_at = monotonic()
        self._bytes_out += sent
        engine.counters.bytes_out += sent
        return sent

    def _shutdown_write(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self.broken(exc)

    # -- for the base class

    def _drop(self, exc: BaseException | None) -> None:
        self._leave_rates()
        self._queue.clear()
        self._engine.release(self, exc)

    def _finish(self) -> None:
        self._lingers = True  # unless there is no need: see lost()
        self._fail(None)

    def _reading_changed(self) -> None:
        if self._state == LOST:
            return
        if self._hold & (HOLD_USER | HOLD_BACKLOG | HOLD_CONNECT | HOLD_RATE):
            self._unread = True  # what comes from now on is not seen
        elif self._state == CLOSING:  # this is close()
            self._leave_rates()
            if self._queue.size:
                self._watch_close()
        self._update_interest()

    def _update_interest(self) -> None:
        mask = (0 if self._hold & ~HOLD_CLOSING else READ) | (WRITE if self._queue.size else 0)
        try:
            self._engine.watch(self, self.fd, mask)
        except OSError as exc:
            self.broken(exc)

    def _verb_begun(self, verb: Verb) -> None:
        if verb is Verb.DISCARD:
            self._on_data = _drop_bytes
        else:
            self._on_data = self._partner()._put

    def answered_after(self, began: float) -> float | None:
        return self._answered_at - began if self._answered_at else None

    def _counted(self) -> tuple[int, int]:
        return self._bytes_in, self._bytes_out

    def _socket(self) -> TransportSocket | None:
        return TransportSocket(self._sock)

    # -- for the engine

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, begin the service's verb if it has one, and start to read."""
        dispatch.call(self, self._protocol, "connection_made", self)
        self._begin_declared(verb)
        if self._engine.draining:
            self.tell_draining()
        if self._state != LOST:
            self._update_interest()
        self._watch_idle()

    def lost(self, exc: BaseException | None) -> None:
        """Deliver ``connection_lost``, then close, unless the socket is to linger."""
        self._end_deadlines()
        self._lingers = self._lingers and self._has_to_linger()
        try:
            dispatch.lost(self, self._protocol, exc)
        finally:
            self._protocol = self._on_data = None  # it may refer to this object: no cycle is left
            if not self._lingers:
                self.abandon()

    def _has_to_linger(self) -> bool:
        """Send the FIN if input may be unread, which this turn's events have told by now."""
        if self._unread and self._engine.limits.linger_timeout:
            try:
                self._sock.shutdown(socket.SHUT_WR)
                return True
            except OSError as exc:  # it was reset: nothing will arrive any more
                self._forget_number(exc)
        return False

    def to_linger(self) -> socket.socket | None:
        """Return the socket if it is to linger, once the protocol has heard of the end."""
        return self._sock if self._lingers else None

    def abandon(self) -> None:
        """Close the descriptor, and do nothing else."""
        with contextlib.suppress(OSError):  # somebody else closed it
            self._sock.close()


def _drop_bytes(data: Bytes) -> None:
    """What ``discard()`` does with them."""
