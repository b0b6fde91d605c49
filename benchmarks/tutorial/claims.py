"""What the tutorial says, and what is so: its three servers and muxcore's engines, tried.

    python benchmarks/tutorial/claims.py            about a minute; --json FILE for programs

Nothing here is a benchmark of the tutorial's servers: two of the three do not survive one.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import platform
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from muxcore.compare import accounting, memory, writing
from muxcore.compare.findings import report
from muxcore.compare.report.table import table
from muxcore.compare.rounds import Cell, measure
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, echo_subject
from muxcore.load import numeric
from muxcore.load.interrupts import status_of

_HERE = Path(__file__).resolve().parent
_PATIENCE = 0.5  # seconds a reply may take before it counts as missing
_LISTINGS = tuple(
    Subject(f"tutorial {name}", (sys.executable, str(_HERE / f"{name}_server.py"), "0"))
    for name in ("process", "select", "epoll")
)
_ENGINES = tuple(
    echo_subject(name, "callback") for name in ("pure-process", "pure-select", "pure-epoll")
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    writing.check(options.json)
    trials = trials_of([*_LISTINGS, *_ENGINES])
    print(table(["server", *(name for name, _ in _TRIALS)], trials), flush=True)
    claims = claims_measured(options.rounds)
    print()
    for claimed, measured in claims:
        print(f"claimed:  {claimed}\nmeasured: {measured}\n")
    if options.json:
        found = {"trials": trials, "claims": claims}
        print(f"figures: {writing.write(options.json, json.dumps(found, indent=1))}")
    return 0


def trials_of(subjects: Sequence[Subject]) -> list[list[str]]:
    """Return one row a server: what it does with ordinary and less ordinary clients."""
    rows = []
    for subject in subjects:
        row = [subject.name]
        for _, trial in _TRIALS:
            try:
                with ServerProcess(subject) as server:
                    row.append(trial(server))
            except (OSError, ServerFailed) as exc:
                row.append(f"failed: {exc}")
        rows.append(row)
    return rows


def _connect(server: ServerProcess) -> socket.socket:
    target = numeric(server.address)
    return socket.create_connection((target.host, target.port), timeout=_PATIENCE)


def _exchange(sock: socket.socket, data: bytes) -> int:
    """Send, and return how many bytes come back before the server falls silent."""
    sock.sendall(data)
    back = 0
    try:
        while back < len(data) and (part := sock.recv(65_536)):
            back += len(part)
    except OSError:
        pass
    return back


def _at_once(server: ServerProcess) -> str:
    with _connect(server) as sock:
        return f"{_exchange(sock, b'x' * 5000):,} of 5,000"


def _together(server: ServerProcess) -> str:
    """Twenty clients that are all there before the server looks: it is stopped meanwhile."""
    served, socks = 0, []
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            sock = socket.socket()
            sock.setblocking(False)
            target = numeric(server.address)
            sock.connect_ex((target.host, target.port))
            socks.append(sock)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    for sock in socks:
        sock.settimeout(_PATIENCE)
        try:
            sock.sendall(b"hello")
            served += sock.recv(5) == b"hello"
        except OSError:
            pass
        sock.close()
    return f"{served} of 20"


def _reset(server: ServerProcess) -> str:
    first = _connect(server)
    first.sendall(b"hello")
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    try:
        with _connect(server) as sock:
            if _exchange(sock, b"hello") == 5:
                return "serves on"
    except OSError:
        return "ended"
    return "serves nobody" if server.is_running() else "ended"


def _zombies(server: ServerProcess) -> str:
    """Ten clients come and go; a second later, who is still in the table of processes?"""
    socks = []
    for _ in range(10):  # one after the other: a backlog of 5 holds no more
        socks.append(_connect(server))
        _exchange(socks[-1], b"hello")
    for sock in socks:
        sock.close()
    deadline = time.monotonic() + 1
    left = 10
    while left and time.monotonic() < deadline:
        states = [_state(pid) for pid in accounting.descendants(server.pid)[1:]]
        left = states.count("Z") if "Z" in states else sum(map(bool, states))
    return f"{left} of 10"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


_TRIALS: tuple[tuple[str, Callable[[ServerProcess], str]], ...] = (
    ("5,000 bytes at once", _at_once),
    ("20 clients at once", _together),
    ("after a reset", _reset),
    ("zombies", _zombies),
)


def claims_measured(rounds: int) -> list[tuple[str, str]]:
    """Return (what is claimed, what was measured)."""
    engines = ("pure-select", "pure-epoll")
    select_cost, epoll_cost = (_cost_by_idle(name, rounds) for name in engines)
    process = echo_subject("pure-process", "callback")
    one = _cost(echo_subject("pure-epoll", "callback"), {"workload": "churn"}, rounds)
    forked = _cost(process, {"workload": "churn", "connections": 4}, rounds)
    each = memory.per_connection(process) or math.nan
    bits, libc = 8 * struct.calcsize("P"), platform.libc_ver()[0]
    costs = f"a connection costs {forked / 1000:.1f} ms of CPU and {each / 1e6:.1f} MB of memory"
    return [
        (
            "select watches 1,024 descriptors on 32 bits, 2,048 on 64 bits",
            f"descriptor {select_limit():,} is the first to be refused, on {bits} bits with {libc}",
        ),
        (
            "select scans its whole array, which wastes CPU when there are many",
            f"so it is: server CPU a message, 50 active clients: {select_cost}",
        ),
        (
            "epoll's efficiency does not fall as the number of descriptors grows",
            f"so it is, while the others are idle: {epoll_cost}",
        ),
        (
            "hundreds or thousands of processes are not advisable, creating them costs much",
            f"{costs}, against {one:.0f} us with epoll; once there, processes do serve",
        ),
        (
            "edge-triggered must be handled at once, or it is not reported again",
            "so it is, and the tutorial's own server does not: see the first two columns",
        ),
    ]


def select_limit() -> int:
    """Return the lowest descriptor that select() refuses."""
    with socket.socket() as sock:
        for number in range(900, 4200):
            copy = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, number)
            try:
                select.select([copy], [], [], 0)
            except ValueError:
                return copy
            finally:
                socket.close(copy)
    return 0


def _cost_by_idle(engine: str, rounds: int) -> str:
    subject = echo_subject(engine, "callback")
    costs = [(idle, _cost(subject, {"connections": 50, "idle": idle}, rounds)) for idle in (0, 900)]
    return ", ".join(f"{cost:.1f} us with {idle} idle ones" for idle, cost in costs)


def _cost(subject: Subject, load: dict[str, object], rounds: int) -> float:
    """Return the server's CPU a message, in microseconds."""
    cell = Cell("cost", {"connections": 50, **load}, seconds=0.05, rounds=rounds)
    series = measure([subject], [cell], blocks=1, rng=random.Random(1))[0]
    figures = report(series, (), 1).figures
    return figures[subject.name].cpu_us.median if figures else math.nan


if __name__ == "__main__":
    sys.exit(status_of(main))
