"""Random lives on every engine, each byte compared, for as long as you like.

    make soak MINUTES=60                      all engines, one after the other
    python tests/soak/soak.py --minutes 5 --engines native-epoll native-epoll:edge

Each engine serves in three programs, as people run them: an echo by the verb, one by callbacks, and
a relay before two upstreams, of which one ends or is killed and comes back all the time. Clients
come, talk, stream, read slowly or never, reset and leave. At the end there are figures, and a
status: 0 where no byte was wrong, nobody was stuck, no descriptor and no child is left, and the
memory did not grow in the last half; else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lives import End, Life

import muxcore
from muxcore import address
from muxcore.compare.accounting import descendants
from muxcore.compare.report.table import table
from muxcore.compare.rounds import explain
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject
from muxcore.compare.warming import warm
from muxcore.load.interrupts import status_of

_CALLBACKS = "muxcore.compare.handlers:CallbackEcho"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CLIENTS = 4  # at once, of each of the three programs
_MOST_LIVES = 500_000  # of one engine: what is kept of each is a number in a counter
_SETTLED_WITHIN = 15.0  # s after the last client's end
_UPSTREAM_LIVES = (0.5, 3.0)  # s, at least and at most
_GROWTH = 8 << 20  # bytes in the last half: slow readers' buffers come and go, heaps are cut up
_SHOWN = 5  # of what went wrong


@dataclass(slots=True)
class _Program:
    """One of the servers, and what became of its clients."""

    name: str
    server: ServerProcess
    descriptors: int
    lives: Counter[str] = field(default_factory=Counter)
    returned: int = 0
    cut: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, end: End, may_be_cut: bool) -> None:
        with self.lock:
            self.lives[end.kind] += 1
            self.returned += end.returned
            self.cut += bool(end.cut)
            if end.wrong or (end.cut and not may_be_cut):
                self.wrong.append(f"{self.name}: a client that {end.kind}: {end.wrong or end.cut}")

    def growth(self) -> tuple[float, float]:
        """Return by how many bytes its memory grew in the last half, by its slope; and seconds."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 2:
            return 0.0, 0.0
        seconds = half[-1][0] - half[0][0]
        middle = sum(at for at, _ in half) / len(half)
        mean = sum(size for _, size in half) / len(half)
        spread = sum((at - middle) ** 2 for at, _ in half)
        slope = sum((at - middle) * (size - mean) for at, size in half) / spread if spread else 0.0
        return slope * seconds, seconds


class _Mortal:
    """An upstream that is killed, and comes back where it was."""

    def __init__(self, dice: random.Random) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self._port = sock.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.deaths: list[float] = []
        self._dice = dice
        self._server: ServerProcess | None = None
        self._until = 0.0

    def turn(self) -> None:
        """Let it die or come back, if it is time."""
        if time.monotonic() < self._until:
            return
        if self._server is None:
            with contextlib.suppress(ServerFailed):  # somebody has its port: later, then
                self._server = ServerProcess(
                    _echo("mortal upstream", "pure-epoll", str(self._port))
                )
        else:
            self.close()
        self._until = time.monotonic() + self._dice.uniform(*_UPSTREAM_LIVES)

    def close(self) -> None:
        if self._server is not None:
            self.deaths.append(math.inf)  # it is dying: whom it takes along may only now begin
            if self._dice.random() < 0.5:
                os.kill(self._server.pid, signal.SIGKILL)
            self._server.stop()
            self._server = None
            self.deaths[-1] = time.monotonic()

    def died_since(self, began: float) -> bool:
        return any(death >= began for death in self.deaths[-20:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="in all (default: 6)")
    parser.add_argument(
        "--engines", nargs="+", metavar="NAME", help="default: all; NAME:edge for that trigger"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the lives (default: by the clock)")
    options = parser.parse_args()
    if not 0 < options.minutes <= 10_000:
        parser.error("--minutes must be above 0, and at most 10,000 (a week)")
    names = options.engines or _all_engines()
    seed = options.seed or time.time_ns() % 1_000_000
    print(f"{options.minutes:g} minutes, {len(names)} engines, seed {seed}", flush=True)
    rows, problems = [], []
    for name in names:
        more, wrong = _soak(name, options.minutes * 60 / len(names), random.Random(seed))
        rows += more
        problems += wrong
        print(f"{name}: {'; '.join(wrong[:1]) or 'all is right'}", flush=True)
    head = ["engine", "lives", "MB back", "cut", "wrong", "descriptors", "children", "MB", "kB/min"]
    print(f"\n{table(head, rows)}")
    print(
        "cut: by an upstream's death; descriptors, children: left; kB/min: slope of the last half"
    )
    for problem in problems[:_SHOWN]:
        print(f"WRONG: {problem}")
    if len(problems) > _SHOWN:
        print(f"and {len(problems) - _SHOWN} more like these")
    return 1 if problems else 0


def _all_engines() -> list[str]:
    found = []
    for info in muxcore.engines():
        if info.available:
            found.append(info.name)
            found += [f"{info.name}:edge"] if "edge_trigger" in info.capabilities else []
    return found


def _soak(name: str, seconds: float, dice: random.Random) -> tuple[list[list[str]], list[str]]:
    """Return a row of figures for each program, and what was wrong."""
    engine, _, trigger = name.partition(":")
    options = ("--engine", engine, "--trigger", trigger or "level")
    mortal = _Mortal(dice)
    with contextlib.ExitStack() as stack:
        stack.callback(mortal.close)
        stable = stack.enter_context(ServerProcess(_echo("upstream", "pure-epoll", "0")))
        subjects = (
            _muxcore(f"{name} verb", "echo", "0", *options),
            _muxcore(f"{name} callbacks", "serve", _CALLBACKS, "0", *options),
            _muxcore(f"{name} relay", "relay", "0", stable.address, mortal.address, *options),
        )
        programs = [_started(subject, stack) for subject in subjects]
        _let_live(programs, mortal, seconds, dice)
        mortal.close()
        problems = [problem for each in programs for problem in each.wrong]
        rows = []
        for program in programs:
            row, more = _judged(program)
            rows.append(row)
            problems += more
    return rows, problems


def _muxcore(name: str, *arguments: str) -> Subject:
    return Subject(name, (sys.executable, "-m", "muxcore", *arguments))


def _echo(name: str, engine: str, where: str) -> Subject:
    return _muxcore(name, "echo", where, "--engine", engine)


def _started(subject: Subject, stack: contextlib.ExitStack) -> _Program:
    server = stack.enter_context(ServerProcess(subject))
    warmed = warm(server.address)
    program = _Program(subject.name, server, _fewest(server.pid))
    if not warmed.ok:
        program.wrong.append(f"{subject.name}: before the lives: {explain(warmed)}")
    return program


def _fewest(pid: int) -> int:
    """Return how many descriptors a server keeps: some are opened with its first client."""
    deadline = time.monotonic() + 1.0
    least = _descriptors(pid)
    while time.monotonic() < deadline:
        least = min(least, _descriptors(pid))
        time.sleep(0.01)
    return least


def _let_live(
    programs: Sequence[_Program], mortal: _Mortal, seconds: float, dice: random.Random
) -> None:
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_clients, args=(each, mortal, until, number, dice.random()))
        for number, each in enumerate(list(programs) * _CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            for each in programs:
                each.memory.append((time.monotonic(), _resident(each.server.pid)))
            if time.monotonic() < until:
                mortal.turn()
            time.sleep(min(seconds / 100, 1.0))
    finally:
        _stop.set()
        for thread in threads:
            thread.join()
        _stop.clear()


_stop = threading.Event()


def _clients(program: _Program, mortal: _Mortal, until: float, number: int, seed: float) -> None:
    dice = random.Random(f"{seed} {number}")
    target = address.parse(program.server.address)
    for turn in range(_MOST_LIVES // (3 * _CLIENTS)):
        if time.monotonic() >= until or _stop.is_set():
            return
        began = time.monotonic()
        end = Life((target.host, target.port), number + 12 * turn, dice).live()
        relayed = program.name.endswith("relay")
        program.add(end, may_be_cut=relayed and mortal.died_since(began))


def _judged(program: _Program) -> tuple[list[str], list[str]]:
    server, problems = program.server, []
    deadline = time.monotonic() + _SETTLED_WITHIN
    while True:
        left = _descriptors(server.pid) - program.descriptors
        children = len(descendants(server.pid)) - 1
        if (left <= 0 and not children) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    growth, seconds = program.growth()
    resident = program.memory[-1][1] if program.memory else 0
    if left > 0:
        problems.append(f"{program.name}: {left} descriptors are left")
    if children:
        problems.append(f"{program.name}: {children} children are left")
    if growth > _GROWTH:
        problems.append(
            f"{program.name}: its memory grew by {growth / 1e6:.1f} MB in the last half"
        )
    if not program.lives.total():
        problems.append(f"{program.name}: nobody lived")
    ending = server.ending()
    if ending or (status := server.stop()):
        problems.append(ending or f"{program.name}: SIGTERM ended it with status {status}")
    row = [
        program.name,
        f"{program.lives.total():,}",
        f"{program.returned / 1e6:,.0f}",
        f"{program.cut:,}",
        f"{len(program.wrong):,}",
        str(max(left, 0)),
        str(children),
        f"{resident / 1e6:.0f}",
        f"{growth / 1000 / (seconds / 60):+,.0f}" if seconds else "-",
    ]
    return row, problems


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0  # it has ended, which is told elsewhere


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
