"""Waking a loop that sleeps in the kernel: from another thread, and from a signal.

A socketpair, not an eventfd: ``signal.set_wakeup_fd`` writes one byte, and an eventfd takes only
eight.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

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
            _write_signals_to(before)


def _write_signals_to(fd: int) -> None:
    """Set the wake-up descriptor back to what it was, unless it has been closed meanwhile."""
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(fd)


class StopSignals:
    """While it is entered, SIGINT and SIGTERM ask for a stop; a second one of either aborts.

    A third one does what it would do without us: it ends the process, also where a callback does
    not return and so nothing can stop or abort the loop. In a process that a callback has forked
    each does what it did before us.

    The C-level handler writes to the loop's wake descriptor at once, so a signal that arrives just
    before the loop goes to sleep is not lost; the Python handler then runs between two turns.
    Outside the main thread nothing is installed, since Python allows signal handlers only there.

    Attributes:
        received: the signals, in order.
    """

    def __init__(self, wakeup_fd: int, stop: Callable[[], None], abort: Callable[[], None]) -> None:
        self.received: list[signal.Signals] = []
        self._wakeup_fd = wakeup_fd
        self._stop = stop
        self._abort = abort
        self._before: dict[signal.Signals, Any] = {}
        self._fd_before = -1
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._fd_before = signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python; it cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _write_signals_to(self._fd_before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a fork that a callback made: it is not what is to stop
            before = self._before[signal.Signals(number)]
            signal.signal(number, signal.SIG_DFL if before is None else before)
            signal.raise_signal(number)
            return
        self.received.append(signal.Signals(number))
        if len(self.received) == 1:
            self._stop()
        elif len(self.received) == 2:
            self._abort()
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
