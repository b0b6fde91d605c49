"""The process that forks the children of a background server, as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable

from muxcore.parts.timers import LONGEST_WAIT
from muxcore.pure.forking import exit_with, flush


class Acceptor:
    """A forked process without threads, and the socket by which it is told to end.

    Args:
        main: what it does, with its end of the socket; returns its exit status.

    Raises:
        OSError: no process can be forked.
    """

    def __init__(self, main: Callable[[socket.socket], int]) -> None:
        flush()
        self._control, theirs = socket.socketpair()
        try:
            self._pid = os.fork()
        except OSError:
            self._control.close()
            theirs.close()
            raise
        if self._pid == 0:
            self._control.close()
            exit_with(lambda: main(theirs))
        theirs.close()
        self._waiting = threading.Lock()  # several threads may wait for the end; one may waitpid
        self._status: int | None = None

    def tell(self, order: bytes) -> None:
        """Send it an order; from any thread and signal handler."""
        with contextlib.suppress(OSError):  # it has ended already
            self._control.send(order, socket.MSG_DONTWAIT)

    def wait(self, timeout: float | None) -> int | None:
        """Return its exit status as of ``os.waitstatus_to_exitcode``; None: it goes on.

        Args:
            timeout: seconds; None: as long as it takes.
        """
        if not self._waiting.acquire(timeout=-1 if timeout is None else _waitable(timeout)):
            return None
        try:
            if self._status is None and self._ends(timeout):
                try:
                    _, status = os.waitpid(self._pid, 0)  # it has closed its end: it is exiting
                except ChildProcessError:  # the program waited for any child, and took ours
                    status = 0
                self._status = os.waitstatus_to_exitcode(status)
                self._control.close()
            return self._status
        finally:
            self._waiting.release()

    def _ends(self, timeout: float | None) -> bool:
        poll = select.poll()  # not select(): a descriptor may have any number
        poll.register(self._control.fileno(), select.POLLIN)
        return bool(poll.poll(None if timeout is None else _waitable(timeout) * 1000))


def _waitable(seconds: float) -> float:
    """Return a time that a lock and poll(2) take."""
    return max(0.0, min(seconds, LONGEST_WAIT))
