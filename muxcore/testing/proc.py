"""What Linux tells of other processes in /proc."""

from __future__ import annotations

import os
import socket
import sys

from muxcore.parts.processes import children as children


def descriptors(pid: int) -> list[str]:
    """Return what each descriptor of a process is."""
    folder = f"/proc/{pid}/fd"
    found = []
    for fd in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{fd}"))
        except OSError:
            pass  # the folder's own
    return found


def state(pid: int) -> str:
    """Return the letter of its state: R, S, Z, …; see proc(5)."""
    return _stat(pid)[0]


def alive(pid: int) -> bool:
    """Whether it has not ended."""
    try:
        return state(pid) not in "ZX"
    except FileNotFoundError:
        return False


def ran_seconds(pid: int) -> float:
    """Return how long its first thread was on a processor: nanoseconds are counted, not ticks."""
    with open(f"/proc/{pid}/schedstat") as found:
        return int(found.read().split()[0]) / 1e9


def listens(address: str) -> bool:
    """Whether somebody listens on an IPv4 address and port; see proc_net(5)."""
    host, _, port = address.rpartition(":")
    number = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[1] == f"{number:08X}:{int(port):04X}" and row[3] == "0A" for row in rows)


def _stat(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()
