"""What is unread when a connection closes: dropped, so that the last bytes sent arrive.

close(2) with unread bytes is a reset, which overtakes what was sent (RFC 1122, 4.2.2.13). asyncio's
transports stop reading at ``close()`` and close(2) once all is sent. Where something may be unread
then, a duplicate of the descriptor outlives asyncio's: what comes in is dropped through it, and
when asyncio is done it sends the EOF and waits until the peer has everything.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios

from muxcore.adapters.asyncio_loop import GuardedLoop
from muxcore.parts import dispatch
from muxcore.parts.dispatch import Failable

_FIRST_LOOK, _LAST_LOOK = 0.01, 0.16  # s between looks at what is acknowledged: 10 ms, doubling
_DROP = 65_536  # bytes that one receive drops


def linger(
    engine: GuardedLoop, transport: Failable, sock: socket.socket, *, unread: bool, queued: bool
) -> Lingering | None:
    """See to what is unread at a close, or may become so while the queue is sent.

    Args:
        engine: the adapter.
        transport: the connection.
        sock: its socket.
        unread: something may be; if not, no system call is made for it.
        queued: something waits to be sent.

    Raises:
        OSError: the connection has failed.
    """
    if unread:
        unread = _drop_unread(sock, engine.limits.reads_per_turn)
    if not (unread or queued):
        return None
    try:
        return Lingering(engine, transport, sock)
    except OSError as exc:  # no descriptor left: it is closed as if nothing were unread
        dispatch.logger.debug("what is unread is not waited for: %s", exc)
        return None


def _drop_unread(sock: socket.socket, receives: int) -> bool:
    """Drop what waits to be read; return whether more may be waiting.

    Args:
        sock: non-blocking.
        receives: how often at most.

    Raises:
        OSError: the connection has failed.
    """
    try:
        return all(len(sock.recv(_DROP)) == _DROP for _ in range(receives))
    except (BlockingIOError, InterruptedError):
        return False


class Lingering:
    """A duplicate of a closing connection's descriptor, through which input is dropped.

    Args:
        engine: the adapter; it is told when the descriptor is closed.
        transport: the connection; a reset that is heard here fails it.
        sock: its socket.

    Raises:
        OSError: there is no descriptor left for the duplicate.
    """

    def __init__(self, engine: GuardedLoop, transport: Failable, sock: socket.socket) -> None:
        self._engine = engine
        self._transport: Failable | None = transport  # None: asyncio is done with it
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._look_after = _FIRST_LOOK
        self._sock: socket.socket | None = sock.dup()
        engine.loop.add_reader(self._sock.fileno(), self._readable)

    def finish(self) -> bool:
        """Asyncio has sent all: send EOF and wait for the peer; return whether that is needed."""
        self._transport = None
        if self._sock is None or not _asked(self._sock, termios.FIONREAD):
            self.close()
            return False
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # reset: nobody waits for the bytes
            self.close()
            return False
        self._until = self._engine.loop.time() + self._engine.limits.linger_timeout
        self._look()
        return self._sock is not None

    def fileno(self) -> int:
        return -1 if self._sock is None else self._sock.fileno()

    def is_acknowledged(self) -> bool:
        """Whether the peer has all that was sent."""
        return self._sock is None or not _unacknowledged(self._sock)

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._engine.loop.remove_reader(sock.fileno())
            sock.close()
            self._engine.lingered(self)

    def _readable(self) -> None:
        sock, transport = self._sock, self._transport
        if sock is None:
            return
        try:
            received = len(sock.recv(_DROP))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self.close()
            if transport is not None:
                transport._fail(exc)
            return
        if not received:  # EOF: nothing can be unread any more
            self.close()

    def _look(self) -> None:
        """Look whether the peer has acknowledged everything: no event tells."""
        now = self._engine.loop.time()
        if self._sock is None:
            return
        if now >= self._until or not _unacknowledged(self._sock):
            self.close()
            return
        self._timer = self._engine.loop.call_later(
            min(self._look_after, self._until - now), self._look
        )
        self._look_after = min(2 * self._look_after, _LAST_LOOK)


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes, the EOF's one included, the peer has not acknowledged: tcp(7)."""
    if sys.platform != "linux":
        return 1  # others do not tell: the peer's EOF or the time-out ends it
    return _asked(sock, termios.TIOCOUTQ)  # SIOCOUTQ has the same number


def _asked(sock: socket.socket, what: int) -> int:
    answer = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), what, answer)
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)
