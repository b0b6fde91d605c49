"""``muxcore load``: drive a server and check its answers."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

from muxcore.cli._arguments import count, duration, in_flags, number, refuse

if TYPE_CHECKING:
    from muxcore.address import Address
    from muxcore.load import LoadConfig

_EXAMPLES = r"""
examples:
  muxcore load 127.0.0.1:9000                           closed loop, 50 connections, 64 bytes
  muxcore load 9000 -q 20k --poisson -d 10s             open loop: latency at an offered rate
  muxcore load 9000 --size 64:90,16k:9,1m:1 --depth 4   a mix of sizes, four in flight
  muxcore load 9000 --workload churn -n 20k             connect, one message, close; 20,000 times
  muxcore load http://127.0.0.1:8000/index.html -c 100  HTTP/1.1, over connections that stay open
  muxcore load 6379 --request 'PING\r\n' --expect '+PONG\r\n'
  muxcore load 25 --greeting '\r\n' --request 'NOOP\r\n' --until '\r\n'
  muxcore load 9000 --json | python3 -m json.tool

In the open loop each message is timed from when it was due, whether or not it could be sent then.
Every byte that comes back is compared, unless --until or HTTP says where a reply ends.
Exit codes: 0 all right; 1 replies were wrong, lost or missing; 2 asked wrongly; 128 + the number of
the signal that ended it early, with its result.
""".lstrip()
_DEFAULTS = {  # size, depth, and connections of each workload
    "echo": ("64", 1, 50),
    "bulk": ("256k", 8, 4),
    "churn": ("64", 1, 50),
    "hold": ("64", 1, 10_000),
}
_DURATION, _WARMUP = 5.0, 0.5  # s

_FLAGS = {  # of each field of LoadConfig
    **{name: f"--{name}" for name in ("connections", "idle", "depth", "rate", "ramp", "sources")},
    **{name: f"--{name}" for name in ("spin", "poisson", "messages", "processes", "size")},
    "sizes": "--size",
    "reply_timeout": "--timeout",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "load",
        help="drive a server: rate, latency percentiles",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "address",
        help="HOST:PORT, a port (loopback), [IPV6]:PORT, unix:PATH, or http://HOST[:PORT]/PATH",
    )
    parser.add_argument("--json", action="store_true", help="for programs; see docs/load.md")
    _add_work(
        parser.add_argument_group("how much (20k is 20,000; times are seconds, or 500ms, 2m)")
    )
    _add_words(parser.add_argument_group("what is said, to a server that does not echo"))
    client = parser.add_argument_group("the client")
    client.add_argument(
        "--timeout",
        type=duration,
        default=5.0,
        metavar="TIME",
        help="for late replies; default: 5s",
    )
    client.add_argument("--sources", type=count, metavar="N", help="loopback source addresses")
    client.add_argument(
        "--spin", type=duration, default=0.0, metavar="TIME", help="poll so long before sleeping"
    )
    client.add_argument("--processes", type=count, metavar="N", help="default: as needed")
    client.add_argument("--generator", choices=("auto", "native", "pure"), default="auto")
    parser.set_defaults(run=run, starts_others=True)


def _add_work(group: Any) -> None:
    group.add_argument("--workload", choices=tuple(_DEFAULTS), default="echo", help="default: echo")
    group.add_argument("-c", "--connections", type=count, metavar="N", help="at once; default: 50")
    group.add_argument(
        "-d", "--duration", type=duration, metavar="TIME", help="measure so long; default: 5s"
    )
    group.add_argument(
        "-n", "--messages", type=count, default=0, metavar="N", help="end after so many messages"
    )
    group.add_argument(
        "-q",
        "--rate",
        type=number,
        default=0.0,
        metavar="R",
        help="messages a second in all, due whether or not the server is ready; "
        "default: each reply brings the next",
    )
    group.add_argument("--poisson", action="store_true", help="random intervals, not fixed ones")
    group.add_argument(
        "--size", metavar="B", help="bytes, or a mix as in 64:90,16k:10; default: 64"
    )
    group.add_argument(
        "--depth", type=count, metavar="D", help="messages in flight on a connection"
    )
    group.add_argument("--idle", type=count, default=0, metavar="N", help="more, that stay silent")
    group.add_argument(
        "--warmup", type=duration, metavar="TIME", help="before that; default: 500ms, 0 with -n"
    )
    group.add_argument(
        "--ramp", type=duration, default=0.0, metavar="TIME", help="open them over so long"
    )


def _add_words(group: Any) -> None:
    group.add_argument(
        "--request", metavar="TEXT|@FILE", help="each message, with \\r, \\n and \\x00"
    )
    answer = group.add_mutually_exclusive_group()
    answer.add_argument(
        "--expect", metavar="TEXT|@FILE", help="each reply; default: HTTP's, or what it is at first"
    )
    answer.add_argument("--until", metavar="TEXT|@FILE", help="what each reply ends with")
    answer.add_argument(
        "--http", nargs="?", const="/", metavar="PATH", help="GET it by HTTP/1.1; default: /"
    )
    group.add_argument(
        "--greeting", metavar="TEXT|@FILE", help="what the server says first ends with this"
    )


def run(options: argparse.Namespace) -> int:
    from muxcore.cli import _load_report
    from muxcore.load import numeric, sharding
    from muxcore.load.config import NUMBER_MAX

    _take_url(options)
    warmup = options.warmup
    if warmup is None:
        warmup = 0.0 if options.messages else _WARMUP
    seconds = options.duration
    if seconds is None:
        seconds = NUMBER_MAX if options.messages else _DURATION
    for flag, value, least in (("--duration", seconds, 1e-9), ("--warmup", warmup, 0.0)):
        if not least <= value <= NUMBER_MAX:
            bound = "above" if least else "at least"
            refuse(options, f"{flag} must be {bound} 0 and at most {NUMBER_MAX:g} s, not {value:g}")
    try:
        config = _config(options)
        processes = sharding.needed(config, options.processes)
    except OSError as exc:  # of the question that learns the answer
        why = exc.strerror or str(exc)
        where = _load_report.unreached(options.address, numeric(options.address), why)
        print(f"muxcore load: {where}", file=sys.stderr)
        return 1
    except ValueError as exc:
        refuse(options, in_flags(exc, _FLAGS))
    live = None
    if sys.stderr.isatty() and not options.json:
        live = _load_report.Live(seconds, options.messages)
    try:
        result = sharding.run(
            config,
            processes,
            kind=options.generator,
            warmup=warmup,
            seconds=seconds,
            progress=live,
        )
    finally:
        if live:
            live.clear()
    if options.json:
        print(json.dumps(_load_report.as_json(options.address, config, result), indent=2))
    else:
        print(_load_report.text(options.address, config, result))
    if result.ended_by:
        return 128 + signal.Signals[result.ended_by]
    return 0 if result.ok else 1


def _take_url(options: argparse.Namespace) -> None:
    """Take an address that is a URL apart: it is one, and --http."""
    scheme, found, rest = options.address.partition("://")
    if not found:
        return
    if scheme != "http":
        refuse(options, f"{scheme}:// cannot be driven: there is no TLS, and no other protocol")
    if options.http is not None or options.request is not None:
        refuse(
            options, f"{options.address} says what to GET: give HOST:PORT, and --http or --request"
        )
    host, _, path = rest.partition("/")
    options.address = host if re.search(r":\d+$", host) else f"{host}:80"
    options.http = f"/{path}"


def _config(options: argparse.Namespace) -> LoadConfig:
    from muxcore.load import LoadConfig, numeric, parse_sizes

    size, depth, connections = _DEFAULTS[options.workload]
    wanted = options.connections if options.connections is not None else connections
    rate = options.rate or (wanted / 60 if options.workload == "hold" else 0.0)
    target = numeric(options.address)
    sources = options.sources
    if sources is None:
        # One source address has 28,000 ports; over loopback there are more addresses to be had.
        many = wanted + options.idle > 20_000 or options.workload == "churn"
        sources = 100 if many and target.host.startswith("127.") else 0
    config = LoadConfig(
        address=target,
        workload=options.workload,
        connections=wanted,
        idle=options.idle,
        depth=options.depth if options.depth is not None else depth,
        sizes=parse_sizes(options.size or size),
        rate=rate,
        poisson=options.poisson,
        ramp=options.ramp,
        sources=sources,
        reply_timeout=options.timeout,
        spin=options.spin,
        messages=options.messages,
    )
    return dataclasses.replace(config, **_words(options, target))


def _words(options: argparse.Namespace, target: Address) -> dict[str, Any]:
    """Return what is said and answered: fields of LoadConfig."""
    from muxcore import address
    from muxcore.load import asking

    said = {name: _text(options, name) for name in ("request", "reply", "until", "greeting")}
    if options.http is not None:
        if said["request"]:
            refuse(options, "--http makes the request: leave --request out")
        try:
            said["request"] = asking.http_get(options.http, address.parse(options.address))
        except ValueError as exc:
            refuse(options, f"--http {exc}")
    if not said["request"]:
        for name in ("expect", "until"):
            if getattr(options, name) is not None:
                refuse(options, f"--{name} is what --request is answered: say what to send, too")
        return said
    if options.size:
        refuse(options, "--size is of messages that are invented, and there is a --request")
    if said["reply"] or said["until"]:
        return said
    if asking.is_http(said["request"]):
        return {**said, "http": True}
    return {**said, "reply": asking.learn(target, said["request"], said["greeting"])}


def _text(options: argparse.Namespace, name: str) -> bytes:
    from muxcore.load.asking import bytes_of
    from muxcore.load.config import SCRIPT_MAX, UNTIL_MAX

    flag = "expect" if name == "reply" else name
    text = getattr(options, flag)
    if text is None:
        return b""
    try:
        return bytes_of(text, SCRIPT_MAX if name in ("request", "reply") else UNTIL_MAX)
    except ValueError as exc:
        refuse(options, f"--{flag} {exc}")
