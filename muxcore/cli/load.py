"""``muxcore load``: drive a server and check its answers."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from muxcore.cli._arguments import count, duration, number

if TYPE_CHECKING:
    from muxcore.load import LoadConfig, LoadResult

_EXAMPLES = """\
examples:
  muxcore load 127.0.0.1:9000                              closed loop, 50 connections, 64 bytes
  muxcore load 9000 --rate 20000 --poisson --duration 10   open loop: latency at an offered rate
  muxcore load 9000 --size 64:90,16k:9,1m:1 --depth 4      a mix of sizes, four in flight
  muxcore load 9000 --workload churn                       connect, one message, close
  muxcore load 9000 --workload hold --connections 40000 --ramp 10 --rate 700
  muxcore load 9000 --json | python3 -m json.tool

In the open loop each message is timed from when it was due, whether or not it could be sent then.
Every byte that comes back is compared.
Exit codes: 0 all right; 1 replies were wrong, lost or missing; 2 asked wrongly.
"""
_DEFAULTS = {  # size, depth, and connections of each workload
    "echo": ("64", 1, 50),
    "bulk": ("256k", 8, 4),
    "churn": ("64", 1, 50),
    "hold": ("64", 1, 10_000),
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "load",
        help="drive a server: rate, latency percentiles",
        epilog=_EXAMPLES,
    )
    parser.add_argument("address", help="HOST:PORT, a port (loopback), [IPV6]:PORT or unix:PATH")
    parser.add_argument("--workload", choices=tuple(_DEFAULTS), default="echo")
    parser.add_argument("--connections", "-c", type=count, metavar="N", help="default: 50")
    parser.add_argument("--idle", type=count, default=0, metavar="N", help="more, that stay silent")
    parser.add_argument(
        "--size", metavar="B", help="bytes, or a mix as in 64:90,16k:10; default: 64"
    )
    parser.add_argument(
        "--depth", type=count, metavar="D", help="messages in flight on a connection"
    )
    parser.add_argument(
        "--rate", type=number, default=0.0, metavar="R", help="messages a second in all"
    )
    parser.add_argument("--poisson", action="store_true", help="random intervals, not fixed ones")
    parser.add_argument("--duration", type=duration, default=5.0, metavar="S", help="default: 5 s")
    parser.add_argument("--warmup", type=duration, default=0.5, metavar="S", help="default: 0.5 s")
    parser.add_argument(
        "--ramp", type=duration, default=0.0, metavar="S", help="open them over S s"
    )
    parser.add_argument("--sources", type=count, metavar="N", help="loopback source addresses")
    parser.add_argument(
        "--spin", type=float, default=0.0, metavar="US", help="poll so long before sleeping"
    )
    parser.add_argument(
        "--timeout", type=duration, default=5.0, metavar="S", help="for late replies"
    )
    parser.add_argument("--processes", type=count, metavar="N", help="clients; default: as needed")
    parser.add_argument("--generator", choices=("auto", "native", "pure"), default="auto")
    parser.add_argument("--json", action="store_true", help="for programs; see docs/load.md")
    parser.set_defaults(run=run, starts_others=True)


def run(options: argparse.Namespace) -> int:
    from muxcore.load import sharding
    from muxcore.load.config import NUMBER_MAX

    try:
        config = _config(options)
        if not (0 < options.duration <= NUMBER_MAX and 0 <= options.warmup <= NUMBER_MAX):
            raise ValueError(
                "--duration must be above 0, and --warmup at least 0; "
                f"both at most {NUMBER_MAX:g} (seconds)"
            )
        processes = sharding.needed(config, options.processes)
    except ValueError as exc:
        print(f"muxcore load: {exc}", file=sys.stderr)
        return 2
    show = _progress if sys.stderr.isatty() and not options.json else None
    result = sharding.run(
        config,
        processes,
        kind=options.generator,
        warmup=options.warmup,
        seconds=options.duration,
        progress=show,
    )
    if show:
        print("\r\x1b[K", end="", file=sys.stderr)
    if options.json:
        print(json.dumps(result.to_json() | {"config": _described(config)}, indent=2))
    else:
        print(_report(config, result))
    return 0 if result.ok else 1


def _config(options: argparse.Namespace) -> LoadConfig:
    from muxcore.load import LoadConfig, numeric, parse_sizes

    size, depth, connections = _DEFAULTS[options.workload]
    wanted = options.connections if options.connections is not None else connections
    hold = options.workload == "hold"
    rate = options.rate or (wanted / 60 if hold else 0.0)
    target = numeric(options.address)
    sources = options.sources
    if sources is None:
        # One source address has 28,000 ports; over loopback there are more addresses to be had.
        many = wanted + options.idle > 20_000 or options.workload == "churn"
        sources = 100 if many and target.host.startswith("127.") else 0
    return LoadConfig(
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
        spin=options.spin / 1e6,
    )


def _described(config: LoadConfig) -> dict[str, Any]:
    return {
        "address": str(config.address),
        "workload": config.workload,
        "mode": config.mode,
        "connections": config.connections,
        "idle": config.idle,
        "depth": config.depth,
        "sizes": [list(each) for each in config.sizes],
        "rate": config.rate,
        "ramp": config.ramp,
        "sources": config.sources,
    }


def _progress(elapsed: float, messages: int) -> None:
    rate = messages / elapsed if elapsed > 0 else 0.0
    print(
        f"\r\x1b[K{elapsed:5.1f} s  {messages:,} messages  {rate:,.0f}/s", end="", file=sys.stderr
    )
    sys.stderr.flush()


def _report(config: LoadConfig, result: LoadResult) -> str:
    found = result.to_json()
    flow = f"{found['megabytes_per_second']:,.1f} MB/s each way"
    lines = [
        f"{config.workload}, {_mode(config)}, {config.connections} connections"
        + (f" and {config.idle} idle ones" if config.idle else "")
        + f", depth {config.depth}, {result.generator} generator, {result.seconds:.2f} s",
        f"  rate      {result.rate:,.0f} messages/s, {flow}",
        f"  messages  {result.answered:,} of {result.sent:,} answered, every byte compared"
        + (f"; {result.lost:,} LOST" if result.lost else "")
        + (
            f"; {result.overdue:,} OVERDUE: the offered rate was not reached" * bool(result.overdue)
        ),
        _times("latency", found["latency_us"]),
    ]
    if config.rate:
        lines.append(_times("lag", found["lag_us"]) + "  (the generator's own lateness)")
    if result.errors or not result.opened:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in result.errors.items())
        lines.append(f"  ERRORS    {kinds or 'no connection'}: {result.first_error}")
    return "\n".join(lines)


def _mode(config: LoadConfig) -> str:
    if not config.rate:
        return "closed loop"
    kind = "Poisson" if config.poisson else "fixed"
    return f"open loop at {config.rate:,.0f}/s ({kind})"


def _times(name: str, found: dict[str, float | None]) -> str:
    parts = [f"{key} {value:,.1f}" for key, value in found.items() if value is not None]
    return f"  {name:<9} " + (", ".join(parts) + " us" if parts else "no message")
