"""What forking asks for: buffers, signals, and an end without the parent's exit handlers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from muxcore.parts import dispatch

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


@contextlib.contextmanager
def sigchld_wakes(note: Callable[[], object]) -> Iterator[bool]:
    """Let a child's end interrupt the wait: without a handler the wake-up fd stays silent.

    Args:
        note: called whenever a child has ended.

    Yields:
        Whether it will be: Python sets handlers in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.getsignal(signal.SIGCHLD)

    def handle(number: int, frame: FrameType | None) -> None:
        note()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGCHLD, handle)
    try:
        yield True
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def end_with_parent(parent: int, stop: Callable[[], object]) -> None:
    """Ask Linux for a SIGTERM when the parent ends, however it ends (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we asked
            stop()


def flush() -> None:
    """Empty the output buffers, or a forked child would write their content once more."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def exit_with(main: Callable[[], int]) -> NoReturn:
    """End a forked process with ``main``'s status, without the parent's exit handlers."""
    status = 1
    try:
        status = main()
    except SystemExit as exc:  # a callback ends its program, which is this process
        status = _status_of(exc)
    except BaseException as exc:
        dispatch.logger.critical("process %d failed", os.getpid(), exc_info=exc)
    finally:
        flush()
        os._exit(status)


def _status_of(exc: SystemExit) -> int:
    """Return what the interpreter would exit with, and say what it would say."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code & 0xFF  # exit(3): the lowest byte is what a parent sees
    dispatch.logger.critical("process %d ends: %s", os.getpid(), exc.code)
    return 1
