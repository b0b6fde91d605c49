"""The children of a process engine: they are waited for, nudged, and told to end.

The parent waits for its own children by their pids: waitpid(-1) would take the status of somebody
else's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from muxcore.parts.first import ours
from muxcore.parts.processes import signal_name
from muxcore.pure.shared_counters import DRAINING, STOPPING, SharedCounters

_TICK = 1.0  # s; an end that no SIGCHLD told of is noticed by then


class Children:
    """Those that one process has forked.

    Args:
        counters: shared with them.
    """

    def __init__(self, counters: SharedCounters) -> None:
        self._counters = counters
        self._slots: dict[int, int] = {}  # by pid
        self._told: set[int] = set()  # pids of those that a drain has told to end
        self._moved: dict[int, int] = {}  # bytes by pid, at a drain's last look
        self._look_at = self._nudge_at = 0.0  # when to look for those that have ended, monotonic()

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, pid: int, slot: int) -> None:
        self._slots[pid] = slot
        ours.add(pid)

    # -- their ends

    def look_soon(self) -> None:
        """A child has ended, whosever it is."""
        self._look_at = 0.0

    def is_look_due(self) -> bool:
        return time.monotonic() >= self._look_at

    def reap(self) -> None:
        """Wait for those of our children that have ended, and for nobody else's."""
        self._look_at = time.monotonic() + _TICK  # first: a signal may come meanwhile
        for pid in list(self._slots):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # the program waited for any child, and took ours
                ended, status = pid, 0
            if ended:
                ours.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                killed = f"killed by {signal_name(-code)}" if code < 0 else ""
                failed = f"ended with status {code}" if code > 0 else ""
                self._counters.give_back(self._slots.pop(pid), killed, or_else=failed)

    # -- what they are told

    def signal(self, number: signal.Signals) -> None:
        for pid in self._slots:
            _kill(pid, number)

    def nudge(self) -> None:
        """Have each look at what it may have missed.

        A signal that comes between Python's last look at its signals and recv(2) leaves the child
        asleep: another one, which means nothing by itself, lets it see the first.
        """
        self._nudge_at = time.monotonic() + _TICK
        self.signal(signal.SIGURG)

    def is_nudge_due(self) -> bool:
        return time.monotonic() >= self._nudge_at

    def begin_drain(self) -> None:
        """Let each hear of it."""
        self._counters.phase = DRAINING
        self.nudge()

    def begin_end(self) -> None:
        """They are about to be told to end, unless a drain has told all of them."""
        if self._slots.keys() - self._told:
            self._counters.phase = STOPPING

    def stop_idle(self) -> None:
        """Tell those to end in which no byte has moved since the last look."""
        before, self._moved = self._moved, {}
        for pid, slot in self._slots.items():
            moved = self._counters.moved(slot)
            if moved >= 0 and before.get(pid) == moved:
                self._stop(pid, slot)
            else:
                self._moved[pid] = moved

    def stop_some(self, most: int) -> int:
        """Tell so many to end that were not told before; return how many those were."""
        left = [each for each in self._slots.items() if each[0] not in self._told][:most]
        for pid, slot in left:
            self._stop(pid, slot)
        return len(left)

    def _stop(self, pid: int, slot: int) -> None:
        self._told.add(pid)
        self._counters.tell(slot)
        _kill(pid, signal.SIGTERM)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # the program has waited for it
        os.kill(pid, number)
