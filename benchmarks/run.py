"""The one entry point of the benchmarks: muxcore and its peers, side by side.

    python benchmarks/run.py                        every target that README.md lists, 150 rounds
    python benchmarks/run.py --cells 64B-50 --rounds 30
    python benchmarks/run.py --subjects pure-epoll asyncio uvloop gevent trio --cells 64B-50
    python benchmarks/run.py --subjects relay-floor relay-haproxy relay-nginx
    python benchmarks/run.py --fairness --subjects native-epoll pure-epoll asyncio uvloop
    python benchmarks/run.py --turns --subjects native-epoll pure-epoll asyncio uvloop
    python benchmarks/run.py --list

The method, and its limits, are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fairness
import peers
import turns
from targets import CELLS, MEMORY, RELAY_CELLS, TARGETS, Target

from muxcore import engines
from muxcore.compare import memory, record, writing
from muxcore.compare.environment import cautions, environment
from muxcore.compare.findings import METRICS, report
from muxcore.compare.questions import Question
from muxcore.compare.report import text
from muxcore.compare.report.table import table
from muxcore.compare.report.verdict import ratio
from muxcore.compare.rounds import BUSY, Series, measure
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, echo_subject, pin
from muxcore.compare.session import twin_of
from muxcore.compare.statistics import Interval, corrected, median_interval, ratios
from muxcore.load.interrupts import status_of

_HELD = 5_000  # connections: enough to pass whatever a server has set aside beforehand
_DEFAULT = ("native-epoll", "floor", "uvloop", "asyncio")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        _list()
        return 0
    relays = [name for name in options.subjects if (p := peers.named(name)) and p.relays]
    if relays and len(relays) < len(options.subjects):
        print(
            "benchmarks: relays and echoes do different work: measure them apart", file=sys.stderr
        )
        return 2
    alone = [name for name in ("fairness", "turns") if getattr(options, name)]
    if alone and (relays or options.cells or options.memory or len(alone) > 1):
        print(
            f"benchmarks: --{alone[0]} is a measurement of its own, of echoes: leave the rest out",
            file=sys.stderr,
        )
        return 2
    options.cells = options.cells or [k for k in CELLS if (k in RELAY_CELLS) == bool(relays)]
    try:
        writing.check(options.json)
        if options.turns:
            return _turns(options)
        with contextlib.ExitStack() as stack:
            upstream = (
                stack.enter_context(ServerProcess(peers.subject("floor"))) if relays else None
            )
            if upstream:
                pin(upstream.pid, server=False)  # the relay has the server's core for itself
            address = upstream.address if upstream else ""
            return _run(options, [s for name in options.subjects for s in _subjects(name, address)])
    except (LookupError, ServerFailed, writing.FileError) as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, subjects: Sequence[Subject]) -> int:
    where = environment()
    print(f"{where['cpu']}, Linux {where['kernel']}; load generator: {where['load_generator']}")
    for line in cautions(where):
        print(line)
    if options.fairness:
        rows = fairness.measure(subjects, rounds=options.rounds, blocks=options.blocks)
        _write(options, where, subjects, {"fairness": rows})
        return _tell(rows, fairness.HEAD, fairness.line)
    wanted = [target for target in TARGETS if target.cell in options.cells]
    comparisons = len(wanted) or 1
    rng = random.Random(options.seed)
    cells, verdicts = [], []
    for key in options.cells:
        cell = replace(CELLS[key], rounds=options.rounds)
        twins = [*subjects, twin_of(subjects[-1])]
        series = measure(twins, [cell], blocks=options.blocks, rng=rng)[0]
        found = record.cell(cell, report(series, _firsts_against(subjects), comparisons))
        cells.append(found)
        print("\n" + text.cell(found), flush=True)
        verdicts += [_judge(t, series, comparisons) for t in wanted if t.cell == key]
    verdicts += _memory(subjects) if options.memory else []
    print("\n" + _verdict_table([verdict for verdict in verdicts if verdict]))
    judged = [verdict for verdict in verdicts if verdict]
    _write(options, where, subjects, {"cells": cells, "targets": judged})
    return 0


def _firsts_against(subjects: Sequence[Subject]) -> list[Question]:
    """Return what the table says in words: the first subject against each other one."""
    first = subjects[0].name
    return [Question(first, s.name, f"{first} against {s.name}") for s in subjects[1:]]


def _turns(options: argparse.Namespace) -> int:
    known = {info.name: info for info in engines()}
    for name in options.subjects:
        if name not in known or not known[name].available:
            reason = known[name].reason if name in known else "there is no such engine"
            raise LookupError(f"--turns measures engines; {name}: {reason}")
    rng = random.Random(options.seed)
    rows = turns.measure(options.subjects, rounds=options.rounds, blocks=options.blocks, rng=rng)
    _write(options, environment(), [], {"turns": rows})
    return _tell(rows, turns.HEAD, turns.line)


def _tell(
    rows: Sequence[dict[str, Any]], head: Sequence[str], line: Callable[[dict[str, Any]], list[str]]
) -> int:
    """Print rows of figures, and who stopped; return the exit status."""
    stopped = [row for row in rows if row["stopped"]]
    print("\n" + table(head, [line(row) for row in rows if not row["stopped"]]))
    for row in stopped:
        print(f"{row['subject']} stopped: {row['stopped']}")
    return 1 if stopped else 0


def _write(
    options: argparse.Namespace,
    where: dict[str, Any],
    subjects: Sequence[Subject],
    found: dict[str, Any],
) -> None:
    if not options.json:
        return
    what = {
        "schema": record.SCHEMA,
        "command": shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "environment": where,
        "rounds": options.rounds,
        "blocks": options.blocks,
        "subjects": [record.subject(each) for each in subjects],
        **found,
    }
    print(f"\nfigures: {writing.write(options.json, json.dumps(what, indent=1))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--subjects",
        nargs="+",
        default=_DEFAULT,
        metavar="NAME",
        help="engines (both handlers, or one as in pure-epoll:verb) and peers",
    )
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), help="default: all that fit")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--blocks", type=int, default=3, help="fresh starts of every server")
    parser.add_argument(
        "--fairness", action="store_true", help="what one flooder costs 100 quiet clients; no cells"
    )
    parser.add_argument(
        "--turns", action="store_true", help="sends of a fan-out, first answer of a slow turn"
    )
    parser.add_argument("--memory", action="store_true", help="bytes of an idle connection, too")
    parser.add_argument("--seed", type=int, help="of the order within rounds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true", help="what there is, and why not")
    return parser


def _list() -> None:
    for info in engines():
        print(f"engine {info.name}: {info.reason or 'available'}")
    for peer in peers.PEERS:
        print(f"peer   {peer.name}: {peers.missing(peer) or 'available'} ({peer.file})")
    for key, cell in CELLS.items():
        print(f"cell   {key}: {cell.name}")


def _subjects(name: str, upstream: str) -> list[Subject]:
    engine, _, handler = name.partition(":")
    if peers.named(name):  # asyncio and uvloop: the bare loop's echo, not our adapter
        return [peers.subject(name, upstream)]
    known = {info.name: info for info in engines()}
    if engine not in known:
        raise LookupError(f"no engine and no peer {name!r}: see --list")
    if not known[engine].available:
        raise LookupError(f"engine {engine}: {known[engine].reason}")
    return [echo_subject(engine, each) for each in ([handler] if handler else ["verb", "callback"])]


def _judge(target: Target, series: Series, comparisons: int) -> dict[str, Any] | None:
    """Say whether a target is reached: the interval's upper end is at or above it."""
    taken = {
        name: [sample for sample in series.samples if sample.subject == name]
        for name in (target.subject, target.reference)
    }
    if not all(taken.values()):
        return None
    by_round = [
        {sample.round: METRICS[target.metric](sample) for sample in samples}
        for samples in taken.values()
    ]
    if target.metric == "cpu":  # less is better: turn it into messages per CPU
        by_round.reverse()
    found = ratios(*by_round)
    interval = median_interval(list(found.values()), corrected(comparisons))
    busy = min(sum(s.busy for s in samples) / len(samples) for samples in taken.values())
    return {
        "cell": series.cell.name,
        "subject": target.subject,
        "reference": target.reference,
        "metric": target.metric,
        "reach": target.reach,
        "ratio": record.interval(interval),
        "reached": interval.high >= target.reach,
        "counts": target.metric == "cpu" or busy > BUSY,
    }


def _memory(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    verdicts = []
    for name, most in MEMORY:
        for subject in subjects:
            if (
                subject.name == name
                and (bytes_each := memory.per_connection(subject, _HELD)) is not None
            ):
                exact = Interval(bytes_each, bytes_each, bytes_each)
                verdicts.append(
                    {
                        "cell": "an idle connection",
                        "subject": name,
                        "reference": "bytes, at most",
                        "metric": "memory",
                        "reach": most,
                        "ratio": record.interval(exact),
                        "reached": bytes_each <= most,
                        "counts": True,
                    }
                )
    return verdicts


def _verdict_table(verdicts: Sequence[dict[str, Any]]) -> str:
    if not verdicts:
        return "no target has both its subject and its reference here"
    rows = [
        [
            f"{each['subject']} / {each['reference']}",
            each["cell"],
            each["metric"],
            f"{each['reach']:g}",
            f"{each['ratio']['median']:.0f}"
            if each["metric"] == "memory"
            else ratio(each["ratio"]),
            "does not count: not busy"
            if not each["counts"]
            else ("reached" if each["reached"] else "MISSED"),
        ]
        for each in verdicts
    ]
    return table(["target", "work", "metric", "reach", "measured", "verdict"], rows)


if __name__ == "__main__":
    sys.exit(status_of(main))
