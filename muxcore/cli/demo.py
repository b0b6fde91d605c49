"""``muxcore demo``: real files over real TCP on every engine, and one table that compares them."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxcore.compare.files import FileRun
    from muxcore.compare.servers import Subject

_CLIENTS = 20
_PROBLEMS = 3  # shown of an engine: the rest is more of the same
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
    )
    parser.add_argument(
        "engines", nargs="*", metavar="ENGINE", help="default: all that can run here"
    )
    parser.add_argument(
        "--files", nargs="+", type=Path, metavar="FILE", help="default: Python's own, the largest"
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="where the comparison's report goes (default: report-demo.html, or report-demo-2.html "
        "where that is there, and so on)",
    )
    parser.set_defaults(run=run, starts_others=True)


def run(options: argparse.Namespace) -> int:
    import tempfile

    from muxcore.compare import files, subjects, writing

    html = writing.place(options.html, Path("report-demo.html"))
    writing.check(html)
    sent = options.files or files.real_files(_CLIENTS)
    for path in sent:
        if not path.is_file():
            print(f"muxcore demo: {path} is not a file that can be sent", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="muxcore-") as folder:
        chosen = subjects.chosen(options.engines, Path(folder), print)
        return _show(chosen, sent, html)


def _show(subjects: Sequence[Subject], sent: Sequence[Path], html: Path) -> int:
    """Send the files, compare, and tell; return the exit code."""
    from muxcore.compare import plan, session, writing
    from muxcore.compare.report.page import page
    from muxcore.compare.report.verdict import again, headline, plain, trust

    transfers = _send_files([each for each in subjects if not each.fresh], sent)
    print("\nNow short messages, every server in turn, in random order ...", flush=True)
    found = session.compare(subjects, plan.demo(), random.Random())
    work = found["cells"][0]
    if not work["figures"]:
        return found["interrupted"] or 1
    print(f"\n{_table(subjects, work, transfers)}\n")
    notes = [f"{name} stopped: {why}" for name, why in work["stopped"].items()]
    notes += [*again(work), plain(headline(found)), trust(found).why]
    print("\n".join([*found["cautions"], *notes]))
    charts = writing.write(html.resolve(), page(found))
    print(f"\nIntervals and charts: {charts}\nMore of it: muxcore compare")
    failed = [n for n, each in transfers.items() if each.verified < each.files]
    return found["interrupted"] or (1 if failed or work["stopped"] else 0)


def _send_files(subjects: Sequence[Subject], sent: Sequence[Path]) -> dict[str, FileRun]:
    from muxcore.compare import files
    from muxcore.compare.rounds import explain
    from muxcore.compare.servers import ServerFailed, ServerProcess, client_core
    from muxcore.compare.warming import warm

    print(f"{_CLIENTS} clients send real files over TCP and get them back:", flush=True)
    transfers = {}
    for subject in subjects:
        try:
            with client_core(), ServerProcess(subject) as server:
                warmed = warm(server.address)
                found = files.transfer(server.address, sent, clients=_CLIENTS)
                if not warmed.ok:
                    found.problems.insert(0, f"before the files: {explain(warmed)}")
                if ending := server.ending():
                    found.problems.insert(0, ending)
        except ServerFailed as exc:
            found = files.FileRun(files=max(_CLIENTS, len(sent)), problems=[str(exc)])
        transfers[subject.name] = found
        verdict = "every SHA-256 is right" if found.verified == found.files else "FAILED"
        size = f"{found.bytes / 1e6:.0f} MB"
        print(
            f"  {subject.name:<24} {found.verified}/{found.files} files, {size}: {verdict}",
            flush=True,
        )
        for problem in found.problems[:_PROBLEMS]:
            print(f"    {problem}")
        if len(found.problems) > _PROBLEMS:
            print(f"    and {len(found.problems) - _PROBLEMS} more like these")
    return transfers


def _table(subjects: Sequence[Subject], work: dict[str, Any], transfers: dict[str, FileRun]) -> str:
    from muxcore.compare.report.table import table

    rows = []
    for subject in subjects:
        sent, figures = transfers.get(subject.name), work["figures"].get(subject.name)
        files = "" if sent is None else "failed"
        if sent and sent.verified == sent.files:
            files = f"{sent.megabytes_per_second:,.0f}"
        if figures is None:
            why = "failed" if subject.name in work["stopped"] else "no window"
            rows.append([subject.name, why, "", files])
            continue
        rate = f"{figures['rate']:,.0f}"
        rows.append(
            [
                subject.name,
                f"{figures['cpu_us_per_message']:.2f}",
                rate if figures["is_bottleneck"] else f"({rate})",
                files,
            ]
        )
    head = ["echo, 64 B", "server CPU us/message", "messages/s", "files MB/s"]
    return table(head, rows) + "\n(in brackets: the client was the limit)"
