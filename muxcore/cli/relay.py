"""``muxcore relay``: join each client with one of several upstreams."""

from __future__ import annotations

import argparse
import re
from typing import Any

from muxcore import address
from muxcore.cli import _serving
from muxcore.cli._arguments import count, duration, in_flags, refuse
from muxcore.cli._logging import Output
from muxcore.load.asking import bytes_of
from muxcore.pool import POLICIES, Check, Pool, Upstream
from muxcore.services.relay import Relay
from muxcore.services.relay.own import is_own

_EXAMPLES = """\
examples:
  muxcore relay 5432 db.internal:5432
  muxcore relay 0.0.0.0:8000 web1:80 web2:80 --policy least-connections --access-log json
  muxcore relay unix:/run/db.sock 127.0.0.1:5432 --idle-timeout 10m --max-connections 500
  muxcore relay 5432 db1:5432,weight=2 db2:5432 spare:5432,backup --max-active 100 --queue 50
  muxcore relay 6379 red1:6379 red2:6379 --check 1s --check-send 'PING\\r\\n' --check-expect PONG
"""
# What may stand behind an upstream's address.
_SUFFIX = re.compile(r"(.+),(?:weight=(?P<weight>\d+)|max-active=(?P<most>\d+)|(?P<backup>backup))")

_FLAGS = {
    "max_active": "--max-active",
    "queue": "--queue",
    "queue_timeout": "--queue-timeout",
    "slow_start": "--slow-start",
    "every": "--check",
    "timeout": "--check-timeout",
    "fall": "--fall",
    "rise": "--rise",
    "send": "--check-send",
    "expect": "--check-expect",
    "agent": "--agent",
}
_ASKING = ("check_send", "check_expect", "agent")  # options that say nothing without a check


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "relay",
        help="join each client with one of several upstreams",
        epilog=_EXAMPLES,
    )
    parser.add_argument("address", metavar="LISTEN", help=_serving.ADDRESS)
    parser.add_argument(
        "upstreams",
        metavar="UPSTREAM",
        nargs="+",
        help="HOST:PORT or unix:PATH, and behind it what is needed of ,weight=N ,max-active=N "
        ",backup",
    )
    _add_pool(parser)
    parser.add_argument(
        "--max-connections", type=count, metavar="N", help="clients at once; further ones wait"
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


def _add_pool(parser: argparse.ArgumentParser) -> None:
    """Add what says which upstream a client gets, and how the upstreams are checked."""
    group = parser.add_argument_group("upstreams")
    group.add_argument(
        "--policy", choices=POLICIES, default=POLICIES[0], help=f"default: {POLICIES[0]}"
    )
    group.add_argument(
        "--max-active", type=count, metavar="N", help="clients at once of one upstream"
    )
    group.add_argument(
        "--queue",
        type=count,
        metavar="N",
        default=0,
        help="clients that wait for a place where all have as many; default: 0",
    )
    group.add_argument(
        "--queue-timeout", type=duration, metavar="TIME", default=5.0, help="default: 5s"
    )
    group.add_argument(
        "--slow-start",
        type=duration,
        metavar="TIME",
        default=0.0,
        help="one that is back gets more and more for so long; default: 0s",
    )
    group = parser.add_argument_group("checks of the upstreams")
    group.add_argument(
        "--check",
        type=duration,
        nargs="?",
        const=2.0,
        metavar="TIME",
        help="connect to each so often (2s, if you give no time); default: not at all",
    )
    usual = Check()
    group.add_argument(
        "--check-timeout", type=duration, metavar="TIME", default=usual.timeout, help="default: 2s"
    )
    group.add_argument(
        "--fall", type=count, metavar="N", default=usual.fall, help="failures; default: 3"
    )
    group.add_argument(
        "--rise", type=count, metavar="N", default=usual.rise, help="successes; default: 2"
    )
    group.add_argument("--check-send", metavar="TEXT", help="send this, with \\r, \\n and \\x00")
    group.add_argument("--check-expect", metavar="TEXT", help="the answer has this in it")
    group.add_argument(
        "--agent", type=count, metavar="PORT", help="ask an agent there, as HAProxy's agent-check"
    )


def run(options: argparse.Namespace) -> int:
    path = options.access_log_file
    access_log = options.access_log or ("text" if options.verbose or path else None)
    clients, connections = options.max_connections, options.connections
    if None not in (clients, connections) and clients != connections:
        refuse(
            options,
            f"--max-connections {clients} and --connections {connections} are the same limit: "
            "give one of them",
        )
    _serving.limits_of(options)
    for name in _ASKING:
        if getattr(options, name) is not None and options.check is None:
            refuse(options, f"--{name.replace('_', '-')} says how to check: give --check, too")
    try:
        where = address.parse(options.address, listen=True)
        service = Relay(
            _pool(options), max_connections=options.max_connections, access_log=access_log
        )
    except ValueError as exc:  # an AddressError is one as well
        flags = {**_serving.FLAGS, **_FLAGS, "connections": "--max-connections"}
        refuse(options, in_flags(exc, flags))
    for upstream in service.pool.upstreams:
        if is_own(upstream.address, [where]):
            refuse(
                options,
                f"upstream {upstream.name} is LISTEN, {where}: each client would be joined with "
                "the relay itself, again and again; name another upstream",
            )
    output = Output(options.quiet, options.log, True, path)
    options.address, options.verbose = [options.address], 0
    return _serving.run(options, service, output=output)


def _pool(options: argparse.Namespace) -> Pool:
    """Return the pool that the options say.

    Raises:
        ValueError: something cannot work.
    """
    check = None
    if options.check is not None:
        check = Check(
            every=options.check,
            timeout=options.check_timeout,
            fall=options.fall,
            rise=options.rise,
            send=bytes_of(options.check_send) if options.check_send else b"",
            expect=bytes_of(options.check_expect) if options.check_expect else b"",
            agent=options.agent,
        )
    return Pool(
        *map(_upstream, options.upstreams),
        policy=options.policy,
        connect_timeout=options.connect_timeout,
        max_active=options.max_active,
        queue=options.queue,
        queue_timeout=options.queue_timeout,
        slow_start=options.slow_start,
        check=check,
    )


def _upstream(text: str) -> Upstream:
    """Return the upstream of an argument such as ``db:5432,weight=2,backup``."""
    found: dict[str, Any] = {}
    while suffix := _SUFFIX.fullmatch(text):
        text = suffix[1]
        if suffix["weight"]:
            found["weight"] = int(suffix["weight"])
        elif suffix["most"]:
            found["max_active"] = int(suffix["most"])
        else:
            found["backup"] = True
    return Upstream(text, **found)
