"""``muxcore demo``: real files over real TCP on every engine, and one table that compares them."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxcore.compare.files import FileRun
    from muxcore.compare.rounds import Series

_CLIENTS = 20
_ROUNDS = 9  # windows of a tenth of a second each: a first impression, and it says so
_EXAMPLES = """\
examples:
  muxcore demo
  muxcore demo pure-epoll native-epoll --files *.iso
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="send real files through every engine, and compare the engines",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="default: all that can run here")
    parser.add_argument(
        "--files", nargs="+", type=Path, metavar="FILE", help="default: Python's own, the largest"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from muxcore.compare import files, rounds
    from muxcore.compare.engines import chosen, echo_subjects
    from muxcore.compare.servers import ServerFailed, ServerProcess, client_core

    names = chosen(options.engines, report=print)
    sent = options.files or files.real_files(_CLIENTS)
    for path in sent:
        if not path.is_file():
            print(f"muxcore: {path} is not a file that can be sent", file=sys.stderr)
            return 2
    subjects = echo_subjects(names)
    transfers: dict[str, FileRun] = {}
    print(f"\n{_CLIENTS} clients send real files over TCP and get them back:")
    for subject in subjects:
        try:
            with client_core(), ServerProcess(subject) as server:
                found = files.transfer(server.address, sent, clients=_CLIENTS)
        except ServerFailed as exc:
            found = files.FileRun(files=max(_CLIENTS, len(sent)), problems=[str(exc)])
        transfers[subject.name] = found
        verdict = "all SHA-256 equal" if found.verified == found.files else "FAILED"
        print(
            f"  {subject.name:<24} {found.verified}/{found.files} files, "
            f"{found.bytes / 1e6:.0f} MB: {verdict}"
        )
        for problem in found.problems:
            print(f"    {problem}")
    cell = rounds.Cell("64 B, 50 connections", {"connections": 50, "sizes": ((64, 1.0),)})
    print(f"\n{cell.name}, {_ROUNDS} windows of {cell.seconds:g} s each, in random order ...")
    series = rounds.measure(subjects, cell, rounds=_ROUNDS, blocks=1, rng=random.Random())
    print("\n" + _table([subject.name for subject in subjects], series, transfers))
    print(_notes(series))
    failed = [n for n, found in transfers.items() if found.verified < found.files]
    return 1 if failed or series.stopped else 0


def _table(names: list[str], series: Series, transfers: dict[str, FileRun]) -> str:
    from muxcore.compare.table import table

    rows = []
    for name in names:
        taken = [sample for sample in series.samples if sample.subject == name]
        found = transfers[name]
        engine, _, handler = name.partition(" ")
        files = f"{found.megabytes_per_second:,.0f}" if found.verified == found.files else "failed"
        if not taken:
            rows.append([engine, handler, "failed", "", "", files])
            continue
        rate = statistics.median(sample.rate for sample in taken)
        cost = statistics.median(sample.cpu_us for sample in taken)
        busy = statistics.median(sample.busy for sample in taken)
        rows.append([engine, handler, f"{rate:,.0f}", f"{cost:.2f}", f"{busy:.0%}", files])
    head = ["engine", "echo by", "messages/s", "server CPU us/message", "server busy", "files MB/s"]
    return table(head, rows)


def _notes(series: Series) -> str:
    from muxcore.compare.rounds import BUSY

    kinds = {sample.result.generator for sample in series.samples}
    lines = [f"{name} stopped: {why}" for name, why in series.stopped.items()]
    if any(sample.busy < BUSY for sample in series.samples):
        lines.append(f"Where the server was busy below {BUSY:.0%}, its rate is the client's limit.")
    if "pure" in kinds:
        lines.append("The load came from the pure-Python generator, itself slower than most servers.")
    lines.append("A first impression: `muxcore compare` measures with intervals.")
    return "\n".join(lines)
