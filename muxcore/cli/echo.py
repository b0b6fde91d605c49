"""``muxcore echo``: send everything back (RFC 862)."""

from __future__ import annotations

import argparse
from typing import Any

from muxcore.cli import _serving
from muxcore.services.echo import Echo

_EXAMPLES = """\
examples:
  muxcore echo 9000                             on loopback; try it: nc 127.0.0.1 9000
  muxcore echo 9000 --engine pure-select -v     a line when a client comes and goes
  muxcore echo 0.0.0.0:9000 '[::]:9000'         on every interface, both families
  muxcore echo unix:/tmp/echo.sock --idle-timeout 30s
"""


class _ByCallbacks:
    """The same service where each message passes through Python, so that -vv can show it."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "echo",
        help="send everything back (RFC 862)",
        epilog=_EXAMPLES,
    )
    _serving.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return _serving.run(options, Echo, _ByCallbacks)
