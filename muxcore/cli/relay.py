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
from muxcore.pool import HEADERS, POLICIES, Check, Pool, Upstream
from muxcore.services.behind_proxy import BehindProxy
from muxcore.services.relay import AccessLog, Relay
from muxcore.services.relay.access_log import FIELDS
from muxcore.services.relay.own import is_own

_EXAMPLES = """\
examples:
  muxcore relay 5432 db.internal:5432
  muxcore relay 0.0.0.0:8000 web1:80 web2:80 --policy least-connections --access-log json
  muxcore relay unix:/run/db.sock 127.0.0.1:5432 --idle-timeout 10m --max-connections 500
  muxcore relay 5432 db1:5432,weight=2 db2:5432 spare:5432,backup --max-active 100 --queue 50
  muxcore relay 6379 red1:6379 red2:6379 --check 1s --check-send 'PING\\r\\n' --check-expect PONG
  muxcore relay 8000 web1:80 web2:80 web3:80 --eject-after 3 --first-byte-timeout 5s
  muxcore relay 0.0.0.0:443 web1:443 web2:443 --accept-proxy 10.0.0.0/8 --send-proxy v2
"""
# What may stand behind an upstream's address.
_SUFFIX = re.compile(
    r"(.+),(?:weight=(?P<weight>\d+)|max-active=(?P<most>\d+)|send-proxy=(?P<header>[\w-]+)"
    r"|(?P<backup>backup))"
)

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
    "eject_after": "--eject-after",
    "first_byte_timeout": "--first-byte-timeout",
    "max_ejected": "--max-ejected",
    "send_proxy": "--send-proxy",
    "fields": "--access-log-fields",
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
        ",send-proxy=V ,backup",
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
    _add_proxy(parser.add_argument_group("the PROXY protocol: whose connection it is"))
    _add_trials(parser.add_argument_group("what clients find out about the upstreams"))
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
        type=_share,
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


def _share(text: str) -> float:
    """Parse a share: ``50%``."""
    if not (found := re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text.strip())):
        raise argparse.ArgumentTypeError(f"must be a share such as 50%, not {text!r}")
    return float(found[1]) / 100


def run(options: argparse.Namespace) -> int:
    path = options.access_log_file
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
        relay = Relay(
            _pool(options),
            max_connections=options.max_connections,
            access_log=_access_log(options),
        )
        service = _behind(options, relay)
    except ValueError as exc:  # an AddressError is one as well
        flags = {**_serving.FLAGS, **_FLAGS, "connections": "--max-connections"}
        refuse(options, in_flags(exc, flags))
    for upstream in relay.pool.upstreams:
        if is_own(upstream.address, [where]):
            refuse(
                options,
                f"upstream {upstream.name} is LISTEN, {where}: each client would be joined with "
                "the relay itself, again and again; name another upstream",
            )
    output = Output(options.quiet, options.log, True, path)
    options.address, options.verbose = [options.address], 0
    return _serving.run(options, service, output=output)


def _access_log(options: argparse.Namespace) -> AccessLog | None:
    """Return the log that the options say; any of them asks for one.

    Raises:
        ValueError: there is no field of a name.
    """
    names, start = options.access_log_fields, options.access_log_start
    if not (options.access_log or options.verbose or options.access_log_file or names or start):
        return None
    fields = [name.strip() for name in names.split(",")] if names else ()
    return AccessLog(options.access_log or "text", fields=fields, start=start)


def _behind(options: argparse.Namespace, relay: Relay) -> Relay | BehindProxy:
    """Return the relay, or the same behind proxies.

    Raises:
        ValueError: something cannot work.
    """
    if options.accept_proxy is None:
        return relay
    try:
        return BehindProxy(relay, trusted=options.accept_proxy, timeout=options.proxy_timeout)
    except ValueError as exc:
        flags = {"trusted": "--accept-proxy", "timeout": "--proxy-timeout"}
        refuse(options, in_flags(exc, flags))


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
        eject_after=options.eject_after,
        first_byte_timeout=options.first_byte_timeout,
        max_ejected=options.max_ejected,
        send_proxy=options.send_proxy,
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
        elif suffix["header"]:
            found["send_proxy"] = suffix["header"]
        else:
            found["backup"] = True
    return Upstream(text, **found)
