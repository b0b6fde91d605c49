"""One connection with a process of its own: blocking calls, so no queue, no events and no turns.

``write`` returns when the kernel has taken all of it, which is all the flow control that one client
needs: while it does not read, its process waits in send(2), and nobody else notices. The waits are
bounded by the kernel itself (SO_RCVTIMEO and SO_SNDTIMEO, socket(7)), which costs no call a
message.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from muxcore import dispatch
from muxcore.errors import CapabilityMissing, IdleTimeout
from muxcore.protocol import Bytes, Verb
from muxcore.pure.shared_counters import SharedCounters
from muxcore.transport import HOLD_EOF, HOLD_USER, LOST, OPEN, BaseTransport
from muxcore.transport_socket import TransportSocket


class BlockingTransport(BaseTransport):
    """A connection served by plain blocking calls.

    Args:
        engine: the process engine, as this child inherited it.
        sock: the connection.
        protocol: what the service returned.
        peername: the peer's socket address.
        counters: shared with the parent.
        slot: this child's slot in them.
    """

    __slots__ = ("_bytes_in", "_bytes_out", "_counters", "_reason", "_slot", "sock", "stopping")

    def __init__(
        self,
        engine: Any,
        sock: socket.socket,
        protocol: Any,
        peername: Any,
        counters: SharedCounters,
        slot: int,
    ) -> None:
        self.sock = sock
        self._counters = counters
        self._slot = slot
        self._bytes_in = 0
        self._bytes_out = 0
        self._reason: BaseException | None = None  # for connection_lost
        self.stopping = False
        super().__init__(engine, protocol, peername)
        sock.setblocking(True)
        if engine.limits.idle_timeout is not None:
            seconds, fraction = divmod(engine.limits.idle_timeout, 1)
            wait = struct.pack("ll", int(seconds), max(1, int(fraction * 1e6)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)

    # -- for the child

    def opened(self, verb: Verb | None) -> None:
        """Tell the protocol, and begin the service's verb if it has one."""
        dispatch.call(self, self._protocol, "connection_made", self)
        if verb is not None and self._state == OPEN and self._verb is None:
            self._begin(verb)

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def peer(self) -> Any:
        """The other side of a relay, or None."""
        return self._peer if isinstance(self._peer, BlockingTransport) else None

    def wants_data(self) -> bool:
        return not self._hold

    def is_lost(self) -> bool:
        return self._state == LOST

    def end(self) -> None:
        """Close it because nothing can happen to it any more: nobody else runs in this process."""
        if self._state == OPEN and self._hold & HOLD_USER and not self.stopping:
            self._fail(
                CapabilityMissing(
                    "reading is paused, and in a process of its own nothing is left to resume it: "
                    f"engine {self._engine.name!r} has no flow_control"
                )
            )
            dispatch.logger.error("connection from %s is closed: %s", self._peername, self._reason)
        self.close()  # also where eof_received kept it open: nothing can write any more

    def lost(self) -> None:
        """Deliver ``connection_lost``, then close."""
        try:
            dispatch.call(self, self._protocol, "connection_lost", self._reason)
        finally:
            self.sock.close()

    def stop(self) -> None:
        """End soon; called by the signal handler, the second time because the first did not do.

        The pending receive returns at once; a send goes on, so that what is being written arrives.
        """
        how = socket.SHUT_RDWR if self.stopping else socket.SHUT_RD
        self.stopping = True
        self._set_hold(HOLD_EOF)
        try:
            self.sock.shutdown(how)
        except OSError:
            pass  # the peer was faster

    def receive(self) -> None:
        """Wait for bytes and deliver them."""
        if self._on_data is None:
            self._receive_into()
            return
        try:
            data = self.sock.recv(self._engine.limits.read_chunk)
        except OSError as exc:
            self._fail(self._timed_out(exc))
            return
        if not data:
            self._ended()
            return
        self.count(len(data), 0)
        try:
            self._on_data(data)
        except Exception as exc:
            dispatch.failed(self, self._protocol, "data_received", exc)

    def _receive_into(self) -> None:
        """Wait for bytes in a BufferedProtocol's own buffer."""
        protocol = self._protocol
        try:
            buffer = memoryview(protocol.get_buffer(-1)).cast("B")
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except Exception as exc:
            dispatch.failed(self, protocol, "get_buffer", exc)
            return
        try:
            size = self.sock.recv_into(buffer)
        except OSError as exc:
            self._fail(self._timed_out(exc))
            return
        if not size:
            self._ended()
            return
        self.count(size, 0)
        dispatch.call(self, protocol, "buffer_updated", size)

    def _ended(self) -> None:
        """EOF: the peer's, or the one that ``stop`` made."""
        if not self.stopping:
            self._eof_received()

    def _timed_out(self, exc: OSError) -> OSError:
        """Translate the EAGAIN of SO_RCVTIMEO and SO_SNDTIMEO."""
        if isinstance(exc, BlockingIOError):
            return IdleTimeout(self._engine.limits.idle_timeout)
        return exc

    def count(self, received: int, sent: int) -> None:
        self._bytes_in += received
        self._bytes_out += sent
        self._counters.add(self._slot, received, sent)

    # -- for the base class

    def get_write_buffer_size(self) -> int:
        return 0

    def _put(self, data: Bytes) -> None:
        """Send all of it, and wait until the kernel has taken it."""
        view = memoryview(data)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        try:
            while view:
                sent = self.sock.send(view)
                self.count(0, sent)
                view = view[sent:]
        except OSError as exc:
            self._fail(self._timed_out(exc))

    def _shutdown_write(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._fail(exc)

    def _drop(self, exc: BaseException | None) -> None:
        self._reason = exc
        if exc is not None:
            self._counters.failed(self._slot, type(exc).__name__)

    def _reading_changed(self) -> None:
        """Nothing to arm: ``serve`` asks before each receive."""

    def _verb_begun(self, verb: Verb) -> None:
        if verb is not Verb.RELAY:  # that is the pump's
            self._on_data = self._put if verb is Verb.ECHO else _drop_bytes

    def _half_closed(self) -> None:
        """The pump keeps that deadline."""

    def _counted(self) -> tuple[int, int]:
        return self._bytes_in, self._bytes_out

    def _socket(self) -> TransportSocket | None:
        return TransportSocket(self.sock)


def _drop_bytes(data: bytes) -> None:
    """What ``discard()`` does with them."""
