"""``muxcore discard``: drop everything (RFC 863)."""

from __future__ import annotations

import argparse
from typing import Any

from muxcore.cli import _serving
from muxcore.services.discard import Discard

_EXAMPLES = """\
examples:
  muxcore discard 9009                          on loopback
  muxcore discard 9009 --engine native -v       a line when a client comes and goes, with its bytes
"""


class _ByCallbacks:
    """The same service where each message passes through Python, so that -vv can show it."""

    def data_received(self, data: bytes) -> None:
        pass


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "discard",
        help="drop everything (RFC 863)",
        epilog=_EXAMPLES,
    )
    _serving.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return _serving.run(options, Discard, _ByCallbacks)
