"""A socket after the end of its connection, for as long as its last bytes need.

close(2) answers unread input with a reset (RFC 1122, 4.2.2.13), and a reset that overtakes the last
bytes takes them from the peer. So a connection that may have unread input has sent its FIN, and
what still comes is dropped here until the peer has acknowledged all, has ended as well, or
``Limits.linger_timeout`` is over. Where no input is known to wait, nothing of this happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from time import monotonic

from muxcore.parts.timers import Timer
from muxcore.pure.poller import READ
from muxcore.pure.watching_loop import WatchingLoop

# s; no event tells of an acknowledgement, so it is asked for: soon, then half as often each time
_FIRST_LOOK = 0.01


class Lingering:
    """A socket that has sent its FIN; it belongs to the engine.

    Args:
        engine: the readiness engine.
        sock: the socket.
        ended: called with this object once the socket is closed.
    """

    __slots__ = ("_ended", "_engine", "_fd", "_over", "_pause", "_sock", "_timer", "_until")

    def __init__(
        self, engine: WatchingLoop, sock: socket.socket, ended: Callable[[Lingering], object]
    ) -> None:
        self._engine = engine
        self._sock = sock
        self._fd = sock.fileno()
        self._ended = ended
        self._until = monotonic() + engine.limits.linger_timeout
        self._pause = _FIRST_LOOK
        self._timer: Timer | None = None
        self._over = False

    def begin(self) -> None:
        """Look at once: over a fast network the peer has acknowledged all by now."""
        if not self._look():
            try:
                self._engine.watch(self, self._fd, READ)
            except OSError:
                self.end()
            else:
                self._again()

    def on_event(self, events: int) -> None:
        self._look()

    def go_on(self) -> None:
        self._look()

    def end(self) -> None:
        """Close it, whatever is left."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._engine.forget(self, self._fd)
        with contextlib.suppress(OSError):  # somebody else closed it
            self._sock.close()
        self._ended(self)

    def disowned(self) -> None:
        """Give up: somebody else closed the descriptor, whose number may be another's by now."""
        self._sock.detach()
        self.end()

    def abandon(self) -> None:
        """Close the descriptor, in a fork of the process that lingers."""
        self._sock.close()

    def _look(self) -> bool:
        """Drop what came, and return whether this is over; it is closed then."""
        if not self._over and (
            self._peer_ended() or self.is_acknowledged() or monotonic() >= self._until
        ):
            self.end()
        return self._over

    def _again(self) -> None:
        left = max(0.0, self._until - monotonic())
        self._timer = self._engine.alarm(min(self._pause, left), self._on_alarm)
        self._pause *= 2

    def _on_alarm(self) -> None:
        if not self._look():
            self._again()

    def _peer_ended(self) -> bool:
        """Drop what came, no more than a turn's budget; return whether the peer has ended."""
        limits = self._engine.limits
        try:
            for _ in range(limits.reads_per_turn):
                if not self._sock.recv(limits.read_chunk, socket.MSG_DONTWAIT):
                    return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # a reset
            return True
        self._engine.left_over(self.go_on)
        return False

    def is_acknowledged(self) -> bool:
        """Whether the peer's kernel has all, the FIN included: tcp(7), SIOCOUTQ."""
        try:
            unsent = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
        except OSError:  # not for this kind of socket
            return False
        return not int.from_bytes(unsent, sys.byteorder)
