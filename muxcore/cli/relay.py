"""``muxcore relay``: join each client with one of several upstreams."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from muxcore import address
from muxcore.cli import _serving
from muxcore.cli._arguments import count, in_flags, refuse
from muxcore.pool import POLICIES
from muxcore.services.relay import Relay
from muxcore.services.relay.own import is_own

_EXAMPLES = """\
examples:
  muxcore relay 5432 db.internal:5432
  muxcore relay 0.0.0.0:8000 web1:80 web2:80 --policy least-connections --access-log json
  muxcore relay unix:/run/db.sock 127.0.0.1:5432 --idle-timeout 10m --max-connections 500
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "relay",
        help="join each client with one of several upstreams",
        epilog=_EXAMPLES,
    )
    parser.add_argument("address", metavar="LISTEN", help=_serving.ADDRESS)
    parser.add_argument("upstreams", metavar="UPSTREAM", nargs="+", help="HOST:PORT or unix:PATH")
    parser.add_argument("--policy", choices=POLICIES, default=POLICIES[0])
    parser.add_argument(
        "--max-connections", type=count, metavar="N", help="clients at once; further ones wait"
    )
    parser.add_argument(
        "--access-log",
        choices=("text", "json"),
        help="a line for each connection that has ended; -v means text",
    )
    _serving.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    access_log = options.access_log or ("text" if options.verbose else None)
    clients, connections = options.max_connections, options.connections
    if None not in (clients, connections) and clients != connections:
        refuse(
            options,
            f"--max-connections {clients} and --connections {connections} are the same limit: "
            "give one of them",
        )
    _serving.limits_of(options)
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
        flags = {**_serving.FLAGS, "connections": "--max-connections"}
        refuse(options, in_flags(exc, flags))
    for upstream in service.pool.upstreams:
        if is_own(upstream.address, [where]):
            refuse(
                options,
                f"upstream {upstream.name} is LISTEN, {where}: each client would be joined with "
                "the relay itself, again and again; name another upstream",
            )
    _log_to_stdout()
    options.address, options.verbose = [options.address], 0
    return _serving.run(options, service)


def _log_to_stdout() -> None:
    """Print the access log as it is: a line of JSON is one for its reader, too."""
    logger = logging.getLogger("muxcore.access")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
