"""A process that is started fresh: nothing of its starter's state is in it, least of all a lock.

It inherits one descriptor, a channel to its starter (``parts/channel.py``), through which all else
comes: where to import from, what to run, and the listening sockets by their names; there it says
when it is ready. The starter's end is the channel's, so that no process is left behind.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from muxcore.parts.channel import Channel
from muxcore.parts.first import ours
from muxcore.workers import bootstrap

_TICK = 0.02  # s between two looks at a process's end, where Linux (before 5.3) has no pidfd


class Process:
    """A process that was started, as its starter sees it.

    Args:
        main: what it runs: a function of a module, which takes the socket of its channel, and
            returns its exit status.

    Attributes:
        pid: its number.
        channel: to it.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, main: Callable[[socket.socket], int]) -> None:
        self.channel, theirs = Channel.pair()
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        command = [sys.executable, *flags, bootstrap.__file__, str(theirs.fileno())]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a terminal's Ctrl-C is for the starter, which tells it
            )
        except BaseException:
            self.channel.close()
            raise
        finally:
            theirs.close()
        self.pid = self._popen.pid
        ours.add(self.pid)
        self._end = _pidfd(self.pid)
        first = [sys.path, sys.argv, main.__module__, main.__name__]
        self.channel.write(json.dumps(first).encode())

    def end_fileno(self) -> int:
        """Return the descriptor that is readable once it has ended; -1: there is none."""
        return self._end

    def status(self) -> int | None:
        """Return its exit status, or minus the number of the signal that ended it; None: it runs.

        Once there is one nothing of it is left but the channel.
        """
        status = self._popen.poll()
        if status is not None:
            ours.discard(self.pid)
            if self._end >= 0:
                os.close(self._end)
                self._end = -1
        return status

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, for some seconds; returns as :meth:`status` does."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.status()) is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return None
            poll = select.poll()  # not select(): a descriptor may have any number
            if self._end >= 0:
                poll.register(self._end, select.POLLIN)
            else:
                left = _TICK if left is None else min(left, _TICK)
            poll.poll(None if left is None else left * 1000)
        return status

    def kill(self) -> None:
        """End it by force."""
        self._popen.kill()


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
