"""The Python engines on a simulated kernel.

python -m tests.simulated [--seeds A..B] [--seed N] [--trace] [--shrink N] [--jobs N] [--most N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

from .run import run
from .script import ENGINES, Script, draw


def shrunk(script: Script, broken: str) -> Script:
    """Take operations out as long as it breaks the same invariant."""
    name = broken.partition(":")[0]
    size = max(1, len(script.ops) // 2)
    while size:
        at = 0
        while at < len(script.ops):
            shorter = script.with_ops(script.ops[:at] + script.ops[at + size :])
            if run(shorter).partition(":")[0] == name:
                script = shorter
            else:
                at += size
        size //= 2
    return script


def some(
    first: int, last: int, step: int, most: int, until: float
) -> tuple[int, list[tuple[int, str]]]:
    """Run every so-manieth seed; return how many, and (seed, what it broke) of the broken."""
    found: list[tuple[int, str]] = []
    count = 0
    for seed in range(first, last + 1, step):
        broken = run(draw(seed))
        count += 1
        if broken:
            found.append((seed, broken))
            if len(found) >= most:
                break
        if until and time.monotonic() > until:
            break
    return count, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulated")
    parser.add_argument("--seeds", default="1..1000", help="A..B: run these")
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--trace", action="store_true", help="print what happens, call by call")
    parser.add_argument("--shrink", type=int, help="find a short script that breaks as this seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--most", type=int, default=1, help="stop after so many, in each process")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long")
    asked = parser.parse_args()
    if asked.shrink is not None:
        script = draw(asked.shrink)
        broken = run(script)
        if not broken:
            print(f"seed {asked.shrink}: nothing is broken")
            return 0
        short = shrunk(script, broken)
        print(f"seed {asked.shrink}: {run(short)}")
        print(f"with {len(short.ops)} of {len(script.ops)} operations")
        print(short)
        run(short, print)
        return 1
    if asked.seed is not None:
        script = draw(asked.seed)
        print(script)
        broken = run(script, print if asked.trace else None)
        print(f"seed {asked.seed}: {broken or 'nothing is broken'}")
        return 1 if broken else 0
    first, _, last = asked.seeds.partition("..")
    low, high = int(first), int(last or first)
    began = time.monotonic()
    until = began + asked.seconds if asked.seconds else 0.0
    jobs = max(1, asked.jobs)
    parts = [(low + n, high, jobs, asked.most, until) for n in range(jobs)]
    if jobs == 1:
        results = [some(*parts[0])]
    else:
        with multiprocessing.Pool(jobs) as pool:
            results = pool.starmap(some, parts)
    found = [each for _, part in results for each in part]
    for seed, broken in sorted(found):
        print(f"seed {seed}: {broken}")
    took = time.monotonic() - began
    if not found:
        names = ", ".join(f"{name} {trigger}" for name, trigger in ENGINES)
        count = sum(each for each, _ in results)
        print(f"{count} seeds on {names}: nothing is broken; {count / took:.0f} seeds/s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
