"""One port for many TLS servers, told apart by the name that the client asks for.

    python examples/tls_router.py 9000 a.example=127.0.0.1:9001 b.example=unix:/run/b.sock
    curl --connect-to a.example:443:127.0.0.1:9000 https://a.example/

The name is read from the client's first message (muxcore.parsers), then client and upstream are
joined. TLS is between those two: the router has no key and changes no byte. A client that asks for
no name, or for one that is not here, is told so in TLS's own words.
"""

from __future__ import annotations

import argparse
import sys
from typing import ClassVar

import muxcore
from muxcore import ParseError, address
from muxcore.parsers import tls_alert, tls_client_hello

# So long may a client be silent, and a joined pair too: longer than a long poll or a keep-alive.
LIMITS = muxcore.Limits(idle_timeout=900)

_MISSING_EXTENSION, _UNRECOGNIZED_NAME = 109, 112  # alerts: RFC 8446, section 6


class Router:
    """One per client: it listens until it knows the name, then lets go."""

    requires = frozenset({"connect", "relay"})
    upstreams: ClassVar[dict[str, muxcore.Address]] = {}

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: muxcore.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            hello = tls_client_hello(self._received)
            if hello is None:
                return  # more is to come
            where = self._upstream(hello.server_name)
            self._transport.relay(where, first=bytes(self._received), timeout=3)
        except ParseError as exc:
            self._transport.write(exc.answer)
            self._transport.close()
            self._complain(exc)
        self._received.clear()

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:  # above all: there is no connection to the upstream
            self._complain(exc)

    def _upstream(self, name: str | None) -> muxcore.Address:
        if name is None:
            raise ParseError("it names no server", tls_alert(_MISSING_EXTENSION))
        if name not in self.upstreams:
            raise ParseError(f"nobody is called {name!r} here", tls_alert(_UNRECOGNIZED_NAME))
        return self.upstreams[name]

    def _complain(self, exc: BaseException) -> None:
        client = self._transport.get_extra_info("peername")
        print(f"{client}: {exc}", file=sys.stderr, flush=True)


def route(text: str) -> tuple[str, muxcore.Address]:
    """Read NAME=ADDRESS."""
    name, equals, where = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=ADDRESS, as in a.example=9001")
    try:
        return name.lower(), address.parse(where)
    except muxcore.AddressError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from None


def main() -> int:
    parser = argparse.ArgumentParser(description="Route TLS clients by the server's name.")
    parser.add_argument("address", metavar="ADDRESS", help="a port, HOST:PORT or unix:PATH")
    parser.add_argument("routes", metavar="NAME=ADDRESS", nargs="+", type=route)
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    Router.upstreams = dict(options.routes)
    try:
        return muxcore.serve(
            Router,
            options.address,
            engine=options.engine,
            limits=LIMITS,
            on_ready=lambda server: print(f"listening on {server.addresses[0]}", flush=True),
        )
    except muxcore.MuxcoreError as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")


if __name__ == "__main__":
    sys.exit(main())
