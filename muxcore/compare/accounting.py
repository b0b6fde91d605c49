"""What a server costs, read from outside: CPU time and memory of a process and all its descendants.

CPU time is the kernel's own account: the process's CPU clock (nanoseconds, every thread, living or
dead; clock_getcpuclockid(3)) of each living process, plus what each has collected from the children
it has waited for (proc(5), ``stat``, fields 16 and 17: clock ticks when read, summed more finely).
So a process-per-client server is charged for its children, those that have ended included.

In a virtual machine the hypervisor may give a core to somebody else; the kernel counts that, too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from pathlib import Path

from muxcore.parts.processes import children

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's posix-timers: the low bits of a CPU clock's id


def descendants(pid: int) -> list[int]:
    """Return the living processes below this one, itself first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):  # it has just ended: its parent has its time now
            found += children(parent)
    return found


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process and its descendants so far, in nanoseconds."""
    total = 0
    for each in descendants(pid):
        try:
            total += time.clock_gettime_ns(~each << 3 | _PROCESS_CLOCK) + _children_ns(each)
        except OSError:
            continue
    return total


def stolen_ns(cores: Collection[int]) -> int:
    """Return the time that others had these cores so far, in nanoseconds, by the clock tick.

    It is 0 where nothing is known of it. proc(5), ``stat``, the eighth figure of a CPU's line.
    """
    names = {f"cpu{core}" for core in cores}
    try:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    except OSError:
        return 0
    return _TICK * sum(int(line[8]) for line in lines if line[0] in names and len(line) > 8)


def memory(pid: int) -> int:
    """Return the private and shared memory of a process tree in bytes, shared pages counted once.

    The proportional set size (proc(5), ``smaps_rollup``): a page that n processes share counts one
    n-th in each, so forked children are not charged for what they have in common.
    """
    total = 0
    for each in descendants(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")
        )
    return total


def _children_ns(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        # The name in field 2 may hold anything: count from its closing bracket, as proc(5) advises.
        fields = stat.read().rpartition(b")")[2].split()
    return (int(fields[13]) + int(fields[14])) * _TICK
