"""What a program's own work costs while relays go on beside it: movers, or the loop's own thread.

    python benchmarks/beside.py            60 rounds, two minutes
    python benchmarks/beside.py --movers 0 the same where the loop's thread moves the bytes

The program's own work is a ticker: a thousand times a second it does something small. A round has
three windows, in random order: relaying (a client sends 20,000 messages a second through 50 pairs),
and two in which the client stands still. The two are each other's A/A. What is looked at is the
thread of the loop alone: its CPU clock, and how often it gave up its core by itself.
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
KINDS = ("relaying", "still", "still again")


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


async def measure(rounds: int, movers: int) -> dict[str, list[tuple[float, float]]]:
    upstream = subprocess.Popen(peers.subject("floor").argv, stdout=subprocess.PIPE, text=True)
    assert upstream.stdout is not None
    where = upstream.stdout.readline().split()[2]

    async def handle(conn: mux.Connection) -> None:
        conn.hand_over(await mux.connect(where))

    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    async with mux.serve(handle, "127.0.0.1:0", engine="native-epoll", movers=movers) as server:
        load = [sys.executable, "-m", "muxcore", "load", server.addresses[0]]
        load += ["-c", str(PAIRS), "--rate", str(RATE), "--duration", "86400", "--processes", "1"]
        client = subprocess.Popen(
            load, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            while server.stats().bytes_in < RATE:
                await asyncio.sleep(0.01)
            ticker = Ticker()
            ticker.tick()
            for _ in range(rounds):
                for kind in random.sample(KINDS, len(KINDS)):
                    goes_on = kind == "relaying"
                    os.killpg(client.pid, signal.SIGCONT if goes_on else signal.SIGSTOP)
                    found[kind].append(await _window(ticker))
        finally:
            os.killpg(client.pid, signal.SIGKILL)
            client.wait()
            upstream.kill()
            upstream.wait()
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
        for kind in KINDS[0], KINDS[2]:
            pairs = zip(found[kind], found["still"], strict=True)
            ratio = median_interval([one[at] / other[at] for one, other in pairs])
            print(f"  {kind} / still: {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
