"""``muxcore compare``: the same work on every engine, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from muxcore.cli._arguments import count, number, refuse

_EXAMPLES = """\
examples:
  muxcore compare                                  all that can run, asyncio and uvloop too
  muxcore compare --quick                          the same in less than two minutes, less exactly
  muxcore compare pure native                      Python against C, of the same model
  muxcore compare pure-epoll uvloop --full         more work, more windows, narrower intervals
  muxcore compare --app myapp:Upper pure native    your own protocol, whatever it answers
  muxcore compare --app myweb:Http --request 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'
  muxcore compare --card card.svg --markdown       a picture to post, and a table to paste
  muxcore compare --json now.json --baseline before.json --fail-under 0.95

Ctrl-C, SIGTERM and a terminal that is closed end the measuring; what is there is reported.
Exit codes: 0 compared; 1 an answer was wrong, or a ratio fell under --fail-under; 2 asked wrongly;
130 after Ctrl-C, 128 + the signal's number after another one.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="the same work on every engine, side by side",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "engines",
        nargs="*",
        metavar="ENGINE",
        help="an engine, a model, pure, native; asyncio and uvloop mean plain programs on them and "
        "the adapters, floor a bare C server (default: all that can run here)",
    )
    parser.add_argument("--app", metavar="MODULE:SERVICE", help="compare on your own service")
    parser.add_argument(
        "--request",
        metavar="TEXT",
        help="what --app is sent, with \\r, \\n and \\x00 (default: a line of 64 bytes); its reply "
        "is learned, and demanded of every engine",
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument(
        "--quick", action="store_true", help="less than two minutes, wider intervals"
    )
    depth.add_argument("--full", action="store_true", help="every axis, 150 rounds: hours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure, for programs")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="the report (default: report.html, or report-2.html where that is there, and so on)",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="one picture to post, an SVG")
    parser.add_argument(
        "--markdown", action="store_true", help="print a table to paste instead of every figure"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="an earlier --json to set beside"
    )
    parser.add_argument(
        "--fail-under",
        type=number,
        metavar="R",
        help="exit 1 where a rate is below R of the baseline's",
    )
    parser.add_argument("--seed", type=count, help="of the order within rounds")
    parser.set_defaults(run=run, starts_others=True)


def run(options: argparse.Namespace) -> int:
    from muxcore.compare import session

    if options.request is not None and options.app is None:
        refuse(options, "--request is what --app is sent: name that service, too")
    if options.fail_under is not None and options.baseline is None:
        refuse(options, "--fail-under needs --baseline FILE")
    return session.run(options)
