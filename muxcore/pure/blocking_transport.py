"""One connection with a process of its own: blocking calls, so no queue, no events and no turns.

``write`` returns when the kernel has taken all of it, which is all the flow control that one client
needs: while it does not read, its process waits in send(2), and nobody else notices. The waits are
bounded by the kernel itself (SO_RCVTIMEO and SO_SNDTIMEO, socket(7)), which costs no call a
message.

Under ``relay()`` that would not do: while the process waited to send to one side that does not
read, it would not receive from the other, and two peers that both send first would wait for ever.
So a relay's two sides queue what the kernel does not take, and the child asks poll(2) about both.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol, TypeVar

from muxcore.abc import Engine
from muxcore.errors import (
    CapabilityMissing,
    CloseTimeout,
    HalfCloseTimeout,
)
from muxcore.parts import dispatch
from muxcore.parts.states import CLOSING, HOLD_EOF, HOLD_USER, LOST, OPEN
from muxcore.parts.transport import BaseTransport
from muxcore.parts.transport_socket import TransportSocket
from muxcore.protocol import AnyProtocol, Bytes, Verb
from muxcore.pure.blocking_linger import Linger
from muxcore.pure.shared_counters import SharedCounters

T = TypeVar("T")

_AT_ONCE = 1e-6  # s; 0 would be for ever: SO_RCVTIMEO, socket(7)


class Waits(Protocol):
    """What a connection sees of its child."""

    def wait(self, call: Callable[..., T], *args: Any) -> T:
        """Make a call that may wait; a stop interrupts it."""


class BlockingTransport(BaseTransport):
    """A connection served by plain blocking calls.

    Args:
        engine: the process engine, as this child inherited it.
        child: what it is a connection of; its ``wait`` makes calls that a stop interrupts.
        sock: the connection.
        protocol: what the service returned.
        peername: the peer's socket address.
        counters: shared with the parent.
        slot: this child's slot in them.
    """

    __slots__ = (
        "_answered_at",
        "_bytes_in",
        "_bytes_out",
        "_child",
        "_closing_since",
        "_counters",
        "_half_at",
        "_lingers",
        "_moved_at",
        "_queue",
        "_reason",
        "_slot",
        "_stopped",
        "_stopping",
        "_unread",
        "_woken",
        "sock",
    )

    def __init__(
        self,
        engine: Engine,
        child: Waits,
        sock: socket.socket,
        protocol: AnyProtocol,
        peername: Any,
        counters: SharedCounters,
        slot: int,
    ) -> None:
        self.sock = sock
        self._child = child
        self._counters = counters
        self._slot = slot
        self._bytes_in = 0
        self._bytes_out = 0
        self._answered_at = 0.0  # the first byte of a relay's other side
        self._queue = b""  # under a relay: what the kernel has not taken yet
        self._moved_at = time.monotonic()  # when a byte last moved
        self._half_at: float | None = None  # when its direction of a relay ended
        self._closing_since: float | None = None  # or since the last byte went, once it closes
        self._reason: BaseException | None = None  # for connection_lost
        self._stopping = False
        self._stopped: BaseException | None = None  # why it was told to end
        self._woken = False  # a wait for bytes ends at once
        self._unread = True  # the kernel may hold bytes that nobody has received
        self._lingers = False  # it ends by close(), and not by an abort
        super().__init__(engine, protocol, peername)
        sock.setblocking(True)
        if engine.limits.idle_timeout is not None:
            self._wait_at_most(socket.SO_RCVTIMEO, engine.limits.idle_timeout)
            self._wait_at_most(socket.SO_SNDTIMEO, engine.limits.idle_timeout)

    def _wait_at_most(self, what: int, seconds: float) -> None:
        """Bound a wait of the kernel's; 0: as long as it takes."""
        whole, fraction = divmod(seconds, 1)
        # a time_t of 64 bits beside a long of 32 (musl): the kernel says how large it is
        known = self.sock.getsockopt(socket.SOL_SOCKET, what, 16)
        form = "qq" if len(known) == 16 else "ll"
        wait = struct.pack(form, int(whole), max(1, int(fraction * 1e6)) if seconds else 0)
        self.sock.setsockopt(socket.SOL_SOCKET, what, wait)

    # -- for the child

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, and begin the service's verb if it has one."""
        dispatch.call(self, self._protocol, "connection_made", self)
        self._begin_declared(verb)

    def fileno(self) -> int:
        return self.sock.fileno()

    def wants(self) -> int:
        """Return what poll(2) is to wait for."""
        if self._queue:
            return select.POLLOUT | (select.POLLIN if not self._hold or self._drops() else 0)
        return 0 if self._hold else select.POLLIN

    def _drops(self) -> bool:
        """Whether it receives only to know that nothing is unread: it sends what is queued."""
        return self._state == CLOSING and not self._hold & HOLD_EOF

    def on_event(self, events: int) -> None:
        """Handle what poll(2) has reported; of a hang-up or an error both calls will tell."""
        if events & ~select.POLLIN and self._queue:
            self._flush()
        if events & ~select.POLLOUT and (not self._hold or self._drops()):
            self.receive(socket.MSG_DONTWAIT)

    def time_left(self) -> float | None:
        """Return the seconds until its next deadline, None if it has none; overdue, it is ended."""
        limits, now = self._engine.limits, time.monotonic()
        left: list[float] = []
        if limits.idle_timeout is not None:  # a relay's deadline is the pair's
            moved_at = max(self._moved_at, self._partner()._moved_at)
            left.append(moved_at + limits.idle_timeout - now)
            if left[-1] <= 0:
                self._idle(limits.idle_timeout)
        if limits.half_close_timeout is not None and self._half_at is not None:
            left.append(self._half_at + limits.half_close_timeout - now)
            if left[-1] <= 0:
                self._fail(HalfCloseTimeout(limits.half_close_timeout))
        if limits.close_timeout is not None and self._state == CLOSING:
            self._closing_since = self._closing_since or now
            left.append(self._closing_since + limits.close_timeout - now)
            if left[-1] <= 0:
                self._fail(CloseTimeout(limits.close_timeout))
        return max(0.0, min(left)) if left else None

    def is_lost(self) -> bool:
        return self._state == LOST

    def end(self) -> None:
        """Close it because nothing can happen to it any more: nobody else runs in this process."""
        if self._state == OPEN and self._hold & HOLD_USER and not self._stopping:
            self._fail(
                CapabilityMissing(
                    "reading is paused, and in a process of its own nothing is left to resume it: "
                    f"engine {self._engine.name!r} has no flow_control"
                )
            )
            dispatch.logger.error("connection from %s is closed: %s", self._peername, self._reason)
        self.close()  # also where eof_received kept it open: nothing can write any more

    def lost(self) -> Linger | None:
        """Deliver ``connection_lost``, then close; or return what closes it a little later."""
        try:
            dispatch.lost(self, self._protocol, self._reason)
        except BaseException:
            self.sock.close()
            raise
        self._protocol = self._on_data = None  # each keeps the other
        seconds = self._engine.limits.linger_timeout
        if self._lingers and self._unread and seconds:
            return Linger(self.sock, seconds)
        self.sock.close()
        return None

    def wake(self) -> None:
        """Let a wait for bytes end at once, with none; called by the signal handler.

        The handler may not raise out of it: recv(2) may have returned, and its bytes would be lost.
        The kernel looks at the bound when the interrupted call is made again.
        """
        self._woken = True
        with contextlib.suppress(OSError):  # it is closed
            self._wait_at_most(socket.SO_RCVTIMEO, _AT_ONCE)

    def woken(self) -> None:
        """Wait as before."""
        self._woken = False
        with contextlib.suppress(OSError):
            self._wait_at_most(socket.SO_RCVTIMEO, self._engine.limits.idle_timeout or 0.0)

    def stop(self, exc: BaseException | None) -> None:
        """End soon; called by the signal handler, a second time if the first was not enough.

        The child ends the pending receive; a send goes on, so that what is being written arrives.

        Args:
            exc: what ``connection_lost`` is to hear, where nothing else ends it.
        """
        self._stopped = self._stopped or exc
        if self._stopping:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster
        self._stopping = True
        self._set_hold(HOLD_EOF)

    def receive(self, flags: int = 0) -> None:
        """Wait for bytes, or with MSG_DONTWAIT do not, and deliver them."""
        if self._buffered and self._verb is None and self._state == OPEN:
            self._receive_into(flags)
            return
        chunk = self._engine.limits.read_chunk
        self._unread = True
        try:
            data = self._child.wait(self.sock.recv, chunk, flags)
        except OSError as exc:
            self._call_failed(exc, flags)
            return
        self._unread = len(data) == chunk  # a short receive means that nothing was left
        self.count(len(data), 0)
        if self._state != OPEN:  # what it drops
            self._hold |= 0 if data else HOLD_EOF
            return
        if not data:
            self._eof_received()
            return
        if self._on_data is not None:
            self._on_data(data)
        else:
            dispatch.call(self, self._protocol, "data_received", data)

    def _receive_into(self, flags: int) -> None:
        """Receive into a BufferedProtocol's own buffer."""
        protocol = self._protocol
        try:
            buffer = memoryview(protocol.get_buffer(-1)).cast("B")
            room = len(buffer)
            if not room:
                raise RuntimeError("get_buffer() returned an empty buffer")
            if buffer.readonly:
                raise TypeError("get_buffer() returned a read-only buffer")
        except BaseException as exc:
            dispatch.failed(self, protocol, "get_buffer", exc)
            return
        if self._hold or self._verb is not None or self._protocol is not protocol:
            return  # get_buffer() changed the connection: begin again
        self._unread = True
        try:
            size = self._child.wait(self.sock.recv_into, buffer, 0, flags)
        except OSError as exc:
            self._call_failed(exc, flags)
            return
        finally:
            buffer.release()  # the protocol may resize it in buffer_updated()
        self._unread = size == room
        if not size:
            self._eof_received()
            return
        self.count(size, 0)
        dispatch.call(self, protocol, "buffer_updated", size)

    def _call_failed(self, exc: OSError, flags: int) -> None:
        """Fail, but for EAGAIN: it is poll's to wait on, or the deadline (SO_RCVTIMEO)."""
        if not isinstance(exc, BlockingIOError):
            self._fail(exc)
        elif not (flags & socket.MSG_DONTWAIT or self._woken):
            self._idle(self._engine.limits.idle_timeout or 0.0)

    def count(self, received: int, sent: int) -> None:
        self._moved_at = time.monotonic()
        if sent and not self._answered_at and self._verb is Verb.RELAY:
            self._answered_at = self._moved_at
        self._bytes_in += received
        self._bytes_out += sent
        if sent and self._closing_since is not None:
            self._closing_since = self._moved_at
        self._counters.add(self._slot, received, sent)

    # -- for the base class

    def get_write_buffer_size(self) -> int:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("get_write_buffer_size()")
        return len(self._queue)

    def _put(self, data: Bytes) -> None:
        """Send all of it, and wait until the kernel has taken it; under a relay queue the rest."""
        view = memoryview(data)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        if self._verb is not Verb.RELAY:
            self._send(view, 0)
            return
        self._queue += view if self._queue else self._send(view, socket.MSG_DONTWAIT)
        if self._queue:
            self._grown(len(self._queue))

    def _flush(self) -> None:
        self._queue = bytes(self._send(memoryview(self._queue), socket.MSG_DONTWAIT))
        if self._state != LOST:
            self._shrunk(len(self._queue))

    def _send(self, view: memoryview, flags: int) -> memoryview:
        """Return what the kernel did not take; of a connection that failed, nothing is left."""
        try:
            while view:
                sent = self.sock.send(view, flags)
                self.count(0, sent)
                view = view[sent:]
        except OSError as exc:
            self._call_failed(exc, flags)
        return view if self._state != LOST else view[:0]

    def _shutdown_write(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._fail(exc)

    def _fail(self, exc: BaseException | None) -> None:
        if self._state != LOST:
            self._lingers = exc is None and self._state == CLOSING
        super()._fail(exc)

    def abort(self) -> None:
        sides = (self, self._partner())
        super().abort()
        for side in sides:
            side._lingers = False

    def _drop(self, exc: BaseException | None) -> None:
        self._reason = exc = self._stopped if exc is None else exc
        self._queue = b""
        if exc is not None:
            self._counters.failed(self._slot, type(exc).__name__)

    def _reading_changed(self) -> None:
        """Nothing to arm: the child asks before each turn."""

    def _verb_begun(self, verb: Verb) -> None:
        self._on_data = _drop_bytes if verb is Verb.DISCARD else self._partner()._put

    def _half_closed(self) -> None:
        self._half_at = time.monotonic()

    def answered_after(self, began: float) -> float | None:
        return self._answered_at - began if self._answered_at else None

    def _counted(self) -> tuple[int, int]:
        return self._bytes_in, self._bytes_out

    def _socket(self) -> TransportSocket | None:
        return TransportSocket(self.sock)


def _drop_bytes(data: Bytes) -> None:
    """What ``discard()`` does with them."""
