"""``muxcore relay``: join each client with one of several upstreams."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from muxcore import address
from muxcore.cli import _serving
from muxcore.cli._logging import Output
from muxcore.pool import POLICIES
from muxcore.services.relay import Relay
from muxcore.services.relay.own import is_own

_EXAMPLES = """\
examples:
  muxcore relay 5432 db.internal:5432
  muxcore relay 0.0.0.0:8000 web1:80 web2:80 --policy least-connections --access-log json
  muxcore relay unix:/run/db.sock 127.0.0.1:5432 --idle-timeout 600 --max-connections 500
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "relay",
        help="join each client with one of several upstreams",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", metavar="LISTEN", help=_serving.ADDRESS)
    parser.add_argument("upstreams", metavar="UPSTREAM", nargs="+", help="HOST:PORT or unix:PATH")
    parser.add_argument("--policy", choices=POLICIES, default=POLICIES[0])
    parser.add_argument(
        "--max-connections", type=int, metavar="N", help="clients at once; further ones wait"
    )
    parser.add_argument(
        "--access-log",
        choices=("text", "json"),
        help="a line for each connection that has ended; -v means text",
    )
    parser.add_argument(
        "--access-log-file", metavar="FILE", help="those lines go there (default: standard output)"
    )
    _serving.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    path = options.access_log_file
    access_log = options.access_log or ("text" if options.verbose or path else None)
    clients, connections = options.max_connections, options.connections
    if None not in (clients, connections) and clients != connections:
        print(
            f"muxcore relay: --max-connections {clients} and --connections {connections} are the "
            "same limit: give one of them",
            file=sys.stderr,
        )
        return 2
    try:
        where = address.parse(options.address)
        service = Relay(
            *options.upstreams,
            policy=options.policy,
            connect_timeout=options.connect_timeout,
            max_connections=options.max_connections,
            access_log=access_log,
        )
    except ValueError as exc:  # an AddressError is one as well
        print(f"muxcore relay: {exc}", file=sys.stderr)
        return 2
    for upstream in service.pool.upstreams:
        if is_own(upstream.address, [where]):
            print(
                f"muxcore relay: upstream {upstream.name} is LISTEN, {where}: each client would be "
                "joined with the relay itself, again and again; name another upstream",
                file=sys.stderr,
            )
            return 2
    output = Output(options.quiet, options.log, True, path)
    options.address, options.verbose = [options.address], 0
    return _serving.run(options, service, output=output)
