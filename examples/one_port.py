"""One port for SSH, TLS and HTTP, told apart by what a client says first.

    python examples/one_port.py 9000 ssh=127.0.0.1:22 tls=127.0.0.1:443 http=127.0.0.1:8080
    ssh -p 9000 127.0.0.1
    curl http://127.0.0.1:9000/

A client of TLS or HTTP speaks first. One of SSH may wait for its server's first word: who says
nothing for some seconds is taken for one, and is told nothing of how it was found out.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys

import muxcore
import muxcore.aio as mux
from muxcore import address

LIMITS = muxcore.Limits(connect_timeout=3)
IDLE_TIMEOUT = 3600  # s in which no byte moves: an SSH session may be left alone over lunch

Routes = dict[str, muxcore.Address]


async def handle(routes: Routes, silence: float, conn: mux.Connection) -> None:
    """Serve one client: find out what it speaks, then join it with whom it looks for."""
    try:
        async with asyncio.timeout(silence):
            protocol: str = await conn.peek(mux.protocol_of)  # the bytes stay in the connection
    except TimeoutError:
        protocol = "ssh"
    except mux.EndOfStream:  # it has left without a word that could be understood
        return
    if protocol == "http2":  # without TLS; a server of HTTP hears that by itself
        protocol = "http"
    where = routes.get(protocol)
    if where is None:
        print(f"{conn.peer}: nobody here speaks {protocol}", file=sys.stderr, flush=True)
        return
    try:
        end = await conn.relay(where, idle_timeout=IDLE_TIMEOUT)  # C moves the bytes
    except OSError as exc:
        print(f"{conn.peer}: {protocol}: {exc}", file=sys.stderr, flush=True)
        return
    print(
        f"{end.client} to {end.upstream}: {protocol}, {end.bytes_up} bytes up, "
        f"{end.bytes_down} down, {end.seconds:.3f} s, {end.reason}",
        flush=True,
    )


async def serve(options: argparse.Namespace) -> None:
    handler = functools.partial(handle, dict(options.routes), options.silence)
    async with mux.serve(handler, options.address, engine=options.engine, limits=LIMITS) as server:
        print(f"listening on {server.addresses[0]}", flush=True)
        await server.serve_forever()


def route(text: str) -> tuple[str, muxcore.Address]:
    """Read PROTOCOL=ADDRESS."""
    name, _, where = text.partition("=")
    if name not in ("ssh", "tls", "http"):
        raise argparse.ArgumentTypeError(f"{text!r}: write ssh=ADDRESS, tls=… or http=…")
    try:
        return name, address.parse(where)
    except muxcore.AddressError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from None


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds, above 0 and below an hour")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve SSH, TLS and HTTP on one port.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("routes", metavar="PROTOCOL=ADDRESS", nargs="+", type=route)
    parser.add_argument(
        "--silence",
        metavar="SECONDS",
        type=seconds,
        default=2.0,
        help="after which a client is taken for SSH's (default: 2)",
    )
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options))
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
