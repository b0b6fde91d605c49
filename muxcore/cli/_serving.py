"""What the commands that serve have in common: their options, and how they run."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from typing import Any

from muxcore.cli._logging import Output
from muxcore.cli._watching import Watched
from muxcore.limits import Limits
from muxcore.load.descriptors import take_all
from muxcore.protocol import Service
from muxcore.server import Server
from muxcore.workers.engine import BALANCES, MOST, number_of

_CLOSE = 1.0  # s without a byte: one that is at work moves some by then
_IDLE = (
    "when it drains, a client that moves no byte for so long (close: 1 s) is ended (default: wait)"
)

ADDRESS = "a port (loopback), HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the addresses, and the options."""
    parser.add_argument("address", nargs="+", help=ADDRESS)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the choice of an engine, the verbosity and the limits."""
    parser.set_defaults(serves=True)
    parser.add_argument(
        "--engine", help="an engine, a model, or auto, pure, native (default: auto)"
    )
    parser.add_argument("--trigger", choices=("level", "edge"), default="level", help="of epoll")
    parser.add_argument("--reuse-port", action="store_true", help="share the port (SO_REUSEPORT)")
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N|auto",
        help="processes that serve, beside a parent that keeps the sockets; auto: one a core",
    )
    parser.add_argument(
        "--balance", choices=BALANCES, default=BALANCES[0], help="of clients over workers"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v",
        dest="verbose",
        action="count",
        default=0,
        help="a line when a client comes and goes; -vv: its messages too, through Python callbacks",
    )
    loudness.add_argument("-q", dest="quiet", action="store_true", help="errors only")
    parser.add_argument("--log", metavar="FILE", help="messages go there; see docs/operating.md")
    group = parser.add_argument_group("limits", "see `python3 -m pydoc muxcore.Limits`")
    for field in dataclasses.fields(Limits):
        if field.name == "drain_idle":
            group.add_argument("--drain-idle", type=_idle, metavar="wait|close|SECONDS", help=_IDLE)
            continue
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=float if "float" in str(field.type) else int,
            metavar="SECONDS" if "float" in str(field.type) else "N",
            help=f"default: {'none' if field.default is None else field.default}",
        )


def run(
    options: argparse.Namespace,
    service: Service,
    by_callbacks: Service | None = None,
    output: Output | None = None,
) -> int:
    """Serve until a signal ends it.

    Args:
        options: what ``add_arguments`` parsed.
        service: what to serve.
        by_callbacks: the same as callbacks, where the service is a verb: -vv needs to see messages.
        output: what is printed, and where; None: messages alone.
    """
    take_all()
    output = output or Output(options.quiet, options.log)
    output.begin()
    if options.verbose and not options.quiet:
        if options.verbose > 1 and by_callbacks is not None:
            print(
                "messages are shown: they pass through Python callbacks, not the verb", flush=True
            )
            service = by_callbacks
        service = Watched(service, messages=options.verbose > 1)
    try:
        server = Server(
            service,
            *options.address,
            engine=options.engine,
            limits=limits_of(options),
            trigger=options.trigger,
            reuse_port=options.reuse_port,
            workers=options.workers,
            worker_setup=None if options.workers is None else output,
            balance=options.balance,
        )
    except ValueError as exc:  # an AddressError is one as well
        print(f"muxcore: {exc}", file=sys.stderr)
        return 2
    return server.run(None if options.quiet else _announcer(options.trigger))


def limits_of(options: argparse.Namespace) -> Limits:
    """Return the limits that the options name; a bad one ends the program with usage."""
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Limits)}
    try:
        return Limits(**{name: value for name, value in given.items() if value is not None})
    except ValueError as exc:
        print(f"muxcore: {exc}", file=sys.stderr)
        raise SystemExit(2) from None


def _idle(text: str) -> float | None:
    """Parse ``--drain-idle``."""
    if text in ("wait", "close"):
        return _CLOSE if text == "close" else None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not wait, close or seconds") from None


def _workers(text: str) -> int | str:
    """Parse ``--workers``."""
    try:
        return number_of(text if text == "auto" else int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither auto nor a number from 1 to {MOST}"
        ) from None


def _announcer(trigger: str) -> Callable[[Server], Any]:
    def announce(server: Server) -> None:
        mode = f", {trigger}-triggered" if "edge_trigger" in server.capabilities else ""
        if server.workers:
            mode += f", {server.workers} worker{'s' if server.workers > 1 else ''}"
        for where in server.addresses:
            print(f"listening on {where} (engine {server.engine}{mode}, pid {os.getpid()})")
        sys.stdout.flush()  # also into a pipe: a script waits for this line

    return announce
