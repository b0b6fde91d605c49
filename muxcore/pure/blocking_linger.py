"""A connection of the process model after its end: what is unread is dropped for a little while.

close(2) with unread bytes is a reset, which overtakes what was sent last and is not there yet (RFC
1122, 4.2.2.13). So the FIN goes first, and what comes is dropped until all is acknowledged.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import time

_CHUNK = 65_536  # bytes that one receive drops


class Linger:
    """A socket that is about to be closed.

    Args:
        sock: the connection; of what was sent to it nothing waits in this process.
        seconds: ``Limits.linger_timeout``.
    """

    LOOK_EVERY = 0.01  # s; no event tells that the last byte was acknowledged

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._until = time.monotonic() + seconds
        self._over = False
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer was faster
            self._over = True

    def fileno(self) -> int:
        return self._sock.fileno()

    def end(self) -> None:
        """Wait no longer; for a signal handler too."""
        self._over = True

    def is_over(self) -> bool:
        """Drop what has come, and close the socket if there is nothing more to wait for."""
        try:
            while not self._over and self._sock.recv(_CHUNK):
                pass
            self._over = True  # EOF
        except BlockingIOError:
            self._over = not self._unacknowledged() or time.monotonic() >= self._until
        except OSError:
            self._over = True
        if self._over:
            self._sock.close()
        return self._over

    def _unacknowledged(self) -> int:
        """Return the bytes, and the FIN, that the peer has not acknowledged: tcp(7), SIOCOUTQ."""
        with contextlib.suppress(OSError):
            answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
            return int(struct.unpack("i", answer)[0])
        return 0
