"""What Linux tells of processes: who a process's children are, what a signal is called."""

from __future__ import annotations

import contextlib
import os
import signal


def children(pid: int | str) -> list[int]:
    """Return the processes that a process, each of its threads, has forked, and not waited for.

    Args:
        pid: its number; "self" is this one, also where /proc is another namespace's.

    Raises:
        OSError: there is no such process, or no /proc.
    """
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        # one that has ended has none: what it had forked is another thread's
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as its:
            found += map(int, its.read().split())
    return found


def signal_name(number: int) -> str:
    """Return a signal's name; a realtime one has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
