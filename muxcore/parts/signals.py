"""SIGINT and SIGTERM while a server runs in the main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from muxcore.parts.waker import write_signals_to


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
        write_signals_to(self._fd_before)

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
