"""The first process of a container, PID 1, is another than all others (pid_namespaces(7)).

- Whoever loses its parent becomes its child, and stays a zombie until it waits for it. It must not
  wait for any child, as an init does: that would take the status of one that somebody here waits
  for, a Popen's. So whoever starts a process says so, in ``ours``, and those are left alone.
  Programs do not say so; so only processes in which no code of theirs starts any reap orphans: the
  parent of workers, and the commands whose service is ours.
- A signal without a handler does nothing to it, not even SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from muxcore.abc import logger
from muxcore.parts.processes import children

ours: set[int] = set()
"""The pids of children that somebody in this process waits for."""


def is_first() -> bool:
    return os.getpid() == 1


@contextlib.contextmanager
def children_are_ours() -> Iterator[None]:
    """Take whatever process is started meanwhile for one that somebody waits for."""
    before = _children() if is_first() else set()
    yield
    if is_first():
        ours.update(_children() - before)


@contextlib.contextmanager
def orphans_are_reaped(soon: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Wait for orphans that have ended, while it is entered, if this is the first process.

    Args:
        soon: has something called in the thread that starts the children of this process, so that
            none is looked at before it is in ``ours``.
    """
    if not is_first():
        yield
        return

    def hear(number: int, frame: FrameType | None) -> None:
        soon(reap)

    before = signal.signal(signal.SIGCHLD, hear)
    soon(reap)  # those who came before
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def reap() -> None:
    """Wait for every child that has ended, and that nobody else waits for."""
    for pid in _children() - ours:
        with contextlib.suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                logger.debug("process %d, whose parent was gone, ended with %d", pid, code)


@contextlib.contextmanager
def sigterm_ends() -> Iterator[None]:
    """Let SIGTERM end the program before it serves, as it ends any other: with 143.

    Raises:
        SystemExit: it came.
    """
    if not is_first():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _children() -> set[int]:
    """Return the pids of this process's children, those that have ended included."""
    return set(children("self"))
