"""Signals while a server runs in the main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Self, TypeAlias

from muxcore.parts.waker import write_signals_to

Heard: TypeAlias = Callable[[signal.Signals], object]

_TO_END = (signal.SIGINT, signal.SIGTERM)
TO_OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a program may have uses of its own for: these are handled only where it has none."""


class ServerSignals:
    """While it is entered, SIGINT and SIGTERM ask for an end; a second one of either aborts.

    A third one does what it would do without us: it ends the process, also where a callback does
    not return and so nothing can stop or abort the loop. In a process that a callback has forked
    each does what it did before us.

    The C-level handler writes to the loop's wake descriptor at once, so a signal that arrives just
    before the loop goes to sleep is not lost; the Python handler then runs between two turns.
    Outside the main thread nothing is installed, since Python allows signal handlers only there.

    Args:
        wakeup_fd: the wake descriptor.
        ask: called with the first of those that are to end it.
        abort: called at the second.
        others: what else is called with its signal, where the program left that its default.

    Attributes:
        received: those that are to end it, in order.
    """

    def __init__(
        self,
        wakeup_fd: int,
        ask: Heard,
        abort: Callable[[], object],
        others: Mapping[signal.Signals, Heard] | None = None,
    ) -> None:
        self.received: list[signal.Signals] = []
        self._wakeup_fd = wakeup_fd
        self._ask = ask
        self._abort = abort
        self._others = others or {}
        self._before: dict[signal.Signals, Any] = {}
        self._fd_before = -1
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._fd_before = signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
            for number in _TO_END:
                self._before[number] = signal.signal(number, self._handle)
            for number in self._others:
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python; it cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        write_signals_to(self._fd_before)

    def end(self, number: signal.Signals) -> None:
        """Take a signal for one that is to end it."""
        self.received.append(number)
        if len(self.received) == 1:
            self._ask(number)
        elif len(self.received) == 2:
            self._abort()
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(128 + number)  # to the first process of a container it does nothing

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a fork that a callback made: it is not what is to stop
            before = self._before[signal.Signals(number)]
            signal.signal(number, signal.SIG_DFL if before is None else before)
            signal.raise_signal(number)
        elif number in _TO_END:
            self.end(signal.Signals(number))
        else:
            self._others[signal.Signals(number)](signal.Signals(number))


def leave_to_parent() -> None:
    """In a forked child, ignore what ``ServerSignals`` of the parent handles for both."""
    for number in TO_OTHERS:
        handler = signal.getsignal(number)
        if isinstance(getattr(handler, "__self__", None), ServerSignals):
            signal.signal(number, signal.SIG_IGN)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal; one that was closed is none (tty(4))."""
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False
