"""How far the comparison can be believed: it is run on pairs of which the truth is known.

    python benchmarks/calibration.py                 20 minutes: 20 runs of each kind

Two servers are the same program. In half of the runs one of them does 5 % more work for a message,
a busy loop, measured against what a message costs here: how often is it found? In the other half
it does not: how often is a difference claimed that is not there? A run is the first cell of
`muxcore compare`, the one that is quoted, with intervals as wide as its many comparisons make them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import timeit
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from muxcore import serve
from muxcore.compare.handlers import CallbackEcho
from muxcore.compare.plan import usual
from muxcore.compare.report.verdict import ratio
from muxcore.compare.servers import Subject
from muxcore.compare.session import compare
from muxcore.load.interrupts import status_of

_COMPARISONS = 65  # of `muxcore compare` where everything can run
_MORE = 0.05  # of the CPU time of a message


class Busy(CallbackEcho):
    """An echo that first does so many turns of a loop."""

    loops = 0

    def data_received(self, data: bytes) -> None:
        for _ in range(self.loops):
            pass
        super().data_received(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--rounds", type=int, default=90, help="in a run (default: 90)")
    parser.add_argument("--engine", default="pure-epoll")
    parser.add_argument("--serve", type=int, metavar="LOOPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        Busy.loops = options.serve
        return serve(
            Busy,
            "127.0.0.1:0",
            engine=options.engine,
            on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
        )
    cost = _run(options, 0, 0)["cells"][0]["figures"]["plain"]["cpu_us_per_message"]
    loops = _loops(_MORE * cost)
    print(f"a message costs {cost:.2f} us of CPU; {loops} turns of a loop are {_MORE:.0%} of it")
    for name, planted in (("5 % planted", loops), ("identical", 0)):
        said: Counter[str] = Counter()
        for number in range(1, options.runs + 1):
            cell = _run(options, planted, number)["cells"][0]
            said.update(each["verdict"] for each in cell["findings"])
            told = "; ".join(map(_told, cell["findings"]))
            twins = "; ".join(f"{metric} {ratio(each)}" for metric, each in cell["twin"].items())
            print(f"{name}, run {number}: {told} (twins: {twins})", flush=True)
        for words, count in sorted(said.items()):
            print(f"{name}: {words} in {count} of {options.runs}")
    return 0


def _run(options: argparse.Namespace, loops: int, seed: int) -> Mapping[str, Any]:
    plan = usual()
    first = replace(plan.cells[0], rounds=options.rounds)
    plan = replace(plan, cells=(first,), fractions=(), costs=False)
    subjects = [_subject(options, "plain", 0), _subject(options, "other", loops)]
    found = compare(subjects, plan, random.Random(seed), comparisons=_COMPARISONS)
    if found["interrupted"]:  # the run was cut short, and so are those that would follow
        raise SystemExit(found["interrupted"])
    return found


def _subject(options: argparse.Namespace, name: str, loops: int) -> Subject:
    arguments = ("--serve", str(loops), "--engine", options.engine)
    # of one model, so that the comparison pairs the two
    return Subject(
        name, (sys.executable, str(Path(__file__)), *arguments), f"{name}-epoll", "callback"
    )


def _loops(microseconds: float) -> int:
    """Return how many turns of an empty loop take so long."""

    def cost(turns: int) -> float:
        taken = timeit.repeat(f"for _ in range({turns}): pass", number=2000, repeat=50)
        return statistics.median(taken) / 2000 * 1e6

    return next(turns for turns in range(1, 10_000) if cost(turns) >= microseconds)


def _told(each: Mapping[str, Any]) -> str:
    return f"{each['verdict']} {ratio(each['ratio'])}"


if __name__ == "__main__":
    sys.exit(status_of(main))
