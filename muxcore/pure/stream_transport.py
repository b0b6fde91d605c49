"""One non-blocking connection of the pure engines: its receives, and its send queue.

Written for both triggers. What differs is one question, asked in two places: under an edge trigger
the kernel says "readable" once, so whoever stops reading before EAGAIN must come back by himself
(``_engine.again``); under a level trigger the kernel says it again.
"""

from __future__ import annotations

import socket
from collections import deque
from threading import get_ident
from typing import Any

from muxcore import dispatch
from muxcore.errors import HalfCloseTimeout
from muxcore.protocol import Bytes, Verb
from muxcore.pure.poller import READ, WRITE
from muxcore.transport import CLOSING, LOST, OPEN, BaseTransport
from muxcore.transport_socket import TransportSocket

_GATHER = 64  # buffers one sendmsg() takes; the kernel allows IOV_MAX = 1024, more wins nothing


class StreamTransport(BaseTransport):
    """A connection served by readiness.

    Args:
        engine: the readiness engine.
        sock: the connection, non-blocking.
        protocol: what the service returned.
        peername: the peer's socket address.
    """

    __slots__ = (
        "_bytes_in",
        "_bytes_out",
        "_half_timer",
        "_moved_at",
        "_queue",
        "_queued",
        "_sock",
        "_timer",
    )

    def __init__(self, engine: Any, sock: socket.socket, protocol: Any, peername: Any) -> None:
        self._sock = sock
        self._queue: deque[memoryview] = deque()
        self._queued = 0  # bytes in _queue
        self._bytes_in = 0
        self._bytes_out = 0
        self._moved_at: float = engine.now  # when a byte last moved, for the idle deadline
        self._timer: Any = None
        self._half_timer: Any = None
        super().__init__(engine, protocol, peername)

    # -- events

    def on_event(self, mask: int, hung_up: bool) -> None:
        """Handle readiness; called by the loop.

        Args:
            mask: READ, WRITE or both.
            hung_up: the event carried a FIN, a hang-up or an error.
        """
        if mask & WRITE and self._queue:
            self._flush()
        if mask & READ:
            self.read(hung_up)

    def read(self, hung_up: bool = True) -> None:
        """Receive until nothing is left, this turn's budget is spent, or reading is held.

        A short receive means that the socket is empty, and saves the receive that would say so; but
        under an edge trigger a FIN that came with the data gave no event of its own, so after a
        hang-up only EAGAIN or EOF ends the reading.
        """
        engine = self._engine
        chunk = engine.limits.read_chunk
        for _ in range(engine.reads_per_turn):
            if self._hold:
                return
            size = self._receive(chunk)
            if size < 0 or (size < chunk and not hung_up):
                return
        if engine.edge:
            engine.again(self)

    def _receive(self, chunk: int) -> int:
        """Receive once and deliver; return the bytes received, or -1 when there is no more now."""
        if self._buffered and self._verb is None:
            return self._receive_into()
        try:
            data = self._sock.recv(chunk)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as exc:
            self._fail(exc)
            return -1
        if not data:
            self._eof_received()
            return -1
        self._count_in(len(data))
        if self._state != OPEN:
            return len(data)  # it was closed: what comes is dropped
        on_data = self._on_data or getattr(self._protocol, "data_received", None)
        if on_data is None:
            return len(data)
        try:
            on_data(data)
        except Exception as exc:
            dispatch.failed(self, self._protocol, "data_received", exc)
        return len(data)

    def _receive_into(self) -> int:
        """Receive once into a BufferedProtocol's own buffer."""
        protocol = self._protocol
        try:
            buffer = memoryview(protocol.get_buffer(-1)).cast("B")
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except Exception as exc:
            dispatch.failed(self, protocol, "get_buffer", exc)
            return -1
        try:
            size = self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as exc:
            self._fail(exc)
            return -1
        if not size:
            self._eof_received()
            return -1
        self._count_in(size)
        dispatch.call(self, protocol, "buffer_updated", size)
        return size if size < len(buffer) else self._engine.limits.read_chunk

    def _count_in(self, size: int) -> None:
        self._moved_at = self._engine.now
        self._bytes_in += size
        self._engine.counters.bytes_in += size

    # -- the send queue

    def get_write_buffer_size(self) -> int:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("get_write_buffer_size()")
        return self._queued

    def _put(self, data: Bytes) -> None:
        """Send at once what the kernel takes; queue the rest, and wait for it to be writable."""
        if isinstance(data, memoryview):
            data = data.cast("B") if data.c_contiguous else data.tobytes()
        sent = 0
        if not self._queue:
            sent = self._send([data])
            if sent < 0 or sent == len(data):
                return
        # bytes are shared, anything else may change after write() returned: copy it
        rest = data if isinstance(data, bytes) else bytes(data)
        self._queue.append(memoryview(rest)[sent:])
        self._queued += len(data) - sent
        if len(self._queue) == 1:
            self._update_interest()
        self._grown(self._queued)

    def _flush(self) -> None:
        """The socket is writable: send from the queue until it is empty or the kernel is full."""
        while self._queue:
            parts = [self._queue[i] for i in range(min(len(self._queue), _GATHER))]
            sent = self._send(parts)
            if sent <= 0:
                break
            self._queued -= sent
            while sent:
                first = self._queue[0]
                if sent < len(first):
                    self._queue[0] = first[sent:]
                    break
                sent -= len(first)
                self._queue.popleft()
        if self._state != LOST:
            if not self._queue:
                self._update_interest()
            self._shrunk(self._queued)

    def _send(self, parts: list[Any]) -> int:
        """Send once; return the bytes the kernel took, or -1 when the connection failed."""
        try:
            sent = self._sock.send(parts[0]) if len(parts) == 1 else self._sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            self._fail(exc)
            return -1
        self._moved_at = self._engine.now
        self._bytes_out += sent
        self._engine.counters.bytes_out += sent
        return sent

    def _shutdown_write(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._fail(exc)

    # -- for the base class

    def _drop(self, exc: BaseException | None) -> None:
        self._queue.clear()
        self._queued = 0
        self._engine.release(self, exc)

    def _reading_changed(self) -> None:
        if self._state != LOST:
            self._update_interest()
            if not self._hold and self._engine.edge:
                self._engine.again(self)  # the edge may have come while reading was held

    def _update_interest(self) -> None:
        self._engine.watch(self, (0 if self._hold else READ) | (WRITE if self._queue else 0))

    def _verb_begun(self, verb: Verb) -> None:
        if verb is Verb.DISCARD:
            self._on_data = _drop_bytes
        else:
            self._on_data = self._partner()._put

    def _half_closed(self) -> None:
        limit = self._engine.limits.half_close_timeout
        if limit is not None:
            exc = HalfCloseTimeout(limit)
            self._half_timer = self._engine.alarm(limit, self._fail, exc)

    def _counted(self) -> tuple[int, int]:
        return self._bytes_in, self._bytes_out

    def _socket(self) -> TransportSocket | None:
        return TransportSocket(self._sock)

    # -- for the engine

    def fileno(self) -> int:
        return self._sock.fileno()

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, begin the service's verb if it has one, and start to read."""
        dispatch.call(self, self._protocol, "connection_made", self)
        if verb is not None and self._state < CLOSING and self._verb is None:
            self._begin(verb)
        if self._state != LOST:
            self._update_interest()
        if self._engine.limits.idle_timeout is not None:
            self._watch_idle()

    def lost(self, exc: BaseException | None) -> None:
        """Deliver ``connection_lost``, then close; what refers to the protocol goes too."""
        for timer in (self._timer, self._half_timer):
            if timer is not None:
                timer.cancel()
        try:
            dispatch.call(self, self._protocol, "connection_lost", exc)
        finally:
            self._sock.close()
            self._protocol = self._on_data = None  # it may refer to this object: no cycle is left

    def _watch_idle(self) -> None:
        """Look again when the deadline would pass if no further byte moved."""
        if self._state == LOST:
            return
        limit = self._engine.limits.idle_timeout
        moved_at = max(
            self._moved_at, self._partner()._moved_at
        )  # a relay's deadline is the pair's
        left = moved_at + limit - self._engine.now
        if left <= 0:
            self._idle(limit)
        else:
            self._timer = self._engine.alarm(left, self._watch_idle)


def _drop_bytes(data: bytes) -> None:
    """What ``discard()`` does with them."""
