"""Waking a loop that sleeps in the kernel: from another thread, and from a signal.

A socketpair, not an eventfd: ``signal.set_wakeup_fd`` writes one byte, and an eventfd takes only
eight.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading

_DRAIN_CHUNK = 4096  # one recv empties what a burst of wake-ups left


class Waker:
    """A pair of sockets: the loop watches ``fileno()``, anybody calls ``wake()``.

    ``wake()`` takes no lock, and may be called in a signal handler and after ``close()``.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._lent = False  # signals may be written to it

    def fileno(self) -> int:
        return self._reader.fileno()

    def writer_fileno(self) -> int:
        """Return the descriptor that a byte is written to, to wake the loop."""
        return self._writer.fileno()

    def signal_fileno(self) -> int:
        """Return the descriptor that ``signal.set_wakeup_fd`` may write to, until ``close()``."""
        self._lent = True
        return self._writer.fileno()

    def wake(self) -> None:
        try:
            self._writer.send(b"\0")
        except OSError:  # full: the loop is awake already; closed: there is no loop to wake
            pass

    def drain(self) -> None:
        try:
            while len(self._reader.recv(_DRAIN_CHUNK)) == _DRAIN_CHUNK:
                pass
        except OSError:  # empty
            pass

    def close(self) -> None:
        if self._lent and self._writer.fileno() >= 0:
            _take_from_signals(self._writer.fileno())
        self._reader.close()
        self._writer.close()


def _take_from_signals(fd: int) -> None:
    """Have no signal written to a descriptor that is about to be closed."""
    if threading.current_thread() is threading.main_thread():
        before = signal.set_wakeup_fd(-1)
        if before != fd:
            write_signals_to(before)


def write_signals_to(fd: int) -> None:
    """Set the wake-up descriptor back to what it was, unless it has been closed meanwhile."""
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(fd)
