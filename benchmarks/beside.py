"""What a program's own work costs while relays go on beside it: movers, or the loop's own thread.

    python benchmarks/beside.py            60 rounds, two minutes and a half
    python benchmarks/beside.py --movers 0 the same where the loop's thread moves the bytes

The program's own work is a ticker: a thousand times a second it does something small. A round has
four windows, in random order: a client sends 20,000 messages a second through 50 pairs of this
program; the same through a relay in a process of its own, which takes as much of the machine and
nothing of this program; and two in which the clients stand still, which are each other's A/A. What
is looked at is the thread of the loop alone: its CPU clock, and how often it gave up its core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import peers

import muxcore.aio as mux
from muxcore.compare.statistics import median_interval

TICK = 0.001  # s
WINDOW, SETTLE = 0.5, 0.1  # s
RATE, PAIRS = 20_000, 50
KINDS = ("here", "elsewhere", "still", "still again")


class Ticker:
    """The program's own work."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self) -> None:
        json.dumps({"tick": self.ticks, "of": [0.5] * 50})
        self.ticks += 1
        asyncio.get_running_loop().call_later(TICK, self.tick)


def _switches() -> int:
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


async def _window(ticker: Ticker) -> tuple[float, float]:
    """Return the thread's CPU in us, and its switches, a tick."""
    await asyncio.sleep(SETTLE)
    cpu, switches, ticks = time.thread_time(), _switches(), ticker.ticks
    await asyncio.sleep(WINDOW)
    ticks = ticker.ticks - ticks
    return (time.thread_time() - cpu) / ticks * 1e6, (_switches() - switches) / ticks


class Clients:
    """A load through a relay, which goes on or stands still; and servers that it needs."""

    def __init__(self) -> None:
        self._servers: list[subprocess.Popen[str]] = []
        self._loads: dict[str, subprocess.Popen[bytes]] = {}

    def server(self, name: str, upstream: str = "") -> str:
        """Start a peer; return where it listens."""
        argv = peers.subject(name, upstream).argv
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._servers.append(server)
        assert server.stdout is not None
        return server.stdout.readline().split()[2]

    def load(self, kind: str, where: str) -> None:
        command = [sys.executable, "-m", "muxcore", "load", where, "-c", str(PAIRS)]
        command += ["--rate", str(RATE), "--duration", "86400", "--processes", "1"]
        self._loads[kind] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def only(self, kind: str) -> None:
        """Let this one go on, and the others stand still."""
        for each, load in self._loads.items():
            os.killpg(load.pid, signal.SIGCONT if each == kind else signal.SIGSTOP)

    def end(self) -> None:
        for load in self._loads.values():
            os.killpg(load.pid, signal.SIGKILL)
            load.wait()
        for server in self._servers:
            server.kill()
            server.wait()


async def measure(rounds: int, movers: int) -> dict[str, list[tuple[float, float]]]:
    """Return what a tick costs in each window of each kind."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    clients = Clients()
    try:
        where = clients.server("floor")

        async def handle(conn: mux.Connection) -> None:
            conn.hand_over(await mux.connect(where))

        async with mux.serve(handle, "127.0.0.1:0", engine="native-epoll", movers=movers) as server:
            clients.load("elsewhere", clients.server("relay", where))
            clients.load("here", server.addresses[0])
            while server.stats().bytes_in < RATE:
                await asyncio.sleep(0.01)
            ticker = Ticker()
            ticker.tick()
            for _ in range(rounds):
                for kind in random.sample(KINDS, len(KINDS)):
                    clients.only(kind)
                    found[kind].append(await _window(ticker))
    finally:
        clients.end()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="A program's own work, while relays go on.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--movers", type=int, default=1)
    options = parser.parse_args()
    found = asyncio.run(measure(options.rounds, options.movers))
    for at, what in enumerate(("CPU a tick, us", "switches a tick")):
        print(f"{what} (movers={options.movers})")
        for kind, values in found.items():
            print(f"  {kind:12} {median_interval([value[at] for value in values])}")
        for kind, other in (
            ("here", "elsewhere"),
            ("elsewhere", "still"),
            ("still again", "still"),
        ):
            both = zip(found[kind], found[other], strict=True)
            ratio = median_interval([one[at] / another[at] for one, another in both])
            print(f"  {kind} / {other}: {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
