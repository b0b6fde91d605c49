"""``muxcore relay``: join each client with one of several upstreams."""

from __future__ import annotations

import argparse
from typing import Any

from muxcore.cli import _serving
from muxcore.cli._arguments import count, duration, share
from muxcore.pool import HEADERS, POLICIES, Check
from muxcore.services.relay.access_log import FIELDS

_EXAMPLES = """\
examples:
  muxcore relay 5432 db.internal:5432
  muxcore relay 0.0.0.0:8000 web1:80 web2:80 --policy least-connections --access-log json
  muxcore relay unix:/run/db.sock 127.0.0.1:5432 --idle-timeout 10m --max-connections 500
  muxcore relay 5432 db1:5432,weight=2 db2:5432 spare:5432,backup --max-active 100 --queue 50
  muxcore relay 6379 red1:6379 red2:6379 --check 1s --check-send 'PING\\r\\n' --check-expect PONG
  muxcore relay 8000 web1:80 web2:80 web3:80 --eject-after 3 --first-byte-timeout 5s
  muxcore relay 0.0.0.0:443 web1:443 web2:443 --accept-proxy 10.0.0.0/8 --send-proxy v2
  muxcore relay --config relay.toml --check
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "relay",
        help="join each client with one of several upstreams",
        epilog=_EXAMPLES,
    )
    parser.add_argument("address", metavar="LISTEN", nargs="?", help=_serving.ADDRESS)
    parser.add_argument(
        "upstreams",
        metavar="UPSTREAM",
        nargs="*",
        help="HOST:PORT or unix:PATH, and behind it what is needed of ,weight=N ,max-active=N "
        ",send-proxy=V ,backup",
    )
    group = parser.add_argument_group("a file that says all of it (see docs/config.md)")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="serve what it says, and nothing else is given but -q; with --check: tell whether it "
        "is good",
    )
    group.add_argument(
        "--print-config", action="store_true", help="print the file that says what is given here"
    )
    _add_pool(parser)
    parser.add_argument(
        "--max-connections", type=count, metavar="N", help="clients at once; further ones wait"
    )
    parser.add_argument(
        "--access-log",
        choices=("text", "json"),
        help="a line for each connection that has ended; -v and the three below mean text",
    )
    parser.add_argument(
        "--access-log-file", metavar="FILE", help="those lines go there (default: standard output)"
    )
    parser.add_argument(
        "--access-log-fields",
        metavar="NAME,NAME,…",
        help=f"what a line has, in this order, of {', '.join(FIELDS)}",
    )
    parser.add_argument(
        "--access-log-start", action="store_true", help="a line when a client has come, too"
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
    group.add_argument(
        "--retry-for",
        type=duration,
        metavar="TIME",
        default=0.0,
        help="a client that no upstream takes is tried again for so long; default: 0s",
    )
    _add_proxy(parser.add_argument_group("the PROXY protocol: whose connection it is"))
    _add_trials(parser.add_argument_group("what clients find out about the upstreams"))
    group = parser.add_argument_group("checks of the upstreams")
    group.add_argument(
        "--check",
        type=duration,
        nargs="?",
        const=2.0,
        metavar="TIME",
        help="connect to each so often (2s, if you give no time); default: not at all. With "
        "--config: see there",
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


def _add_trials(group: Any) -> None:
    """Add what is made of upstreams that take clients and do not answer."""
    group.add_argument(
        "--eject-after",
        type=count,
        metavar="N",
        help="clients in a row that an upstream resets, closes or starves before its first byte "
        "until it rests; default: it never does for that",
    )
    group.add_argument(
        "--first-byte-timeout",
        type=duration,
        metavar="TIME",
        help="cut a pair whose upstream is silent so long after the client's bytes; default: none",
    )
    group.add_argument(
        "--max-ejected",
        type=share,
        metavar="N%",
        default=0.5,
        help="of the upstreams may rest for that at once; default: 50%%",
    )


def _add_proxy(group: Any) -> None:
    """Add what is told of clients, and who may tell it."""
    group.add_argument(
        "--accept-proxy",
        action="append",
        metavar="NET",
        help="each connection begins with a header, and comes from this network, or from unix; "
        "several times for several",
    )
    group.add_argument(
        "--proxy-timeout",
        type=duration,
        metavar="TIME",
        default=3.0,
        help="in which the header has to come; default: 3s",
    )
    group.add_argument(
        "--send-proxy",
        choices=HEADERS[1:],
        default="",
        help="tell the upstreams who the client is",
    )


def run(options: argparse.Namespace) -> int:
    from muxcore.cli import _relaying  # the file's parser is for those who relay

    return _relaying.run(options)
