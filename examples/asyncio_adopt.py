"""A proxy for HTTP's CONNECT inside an asyncio program: asyncio decides, muxcore moves the bytes.

    python examples/asyncio_adopt.py 9000 example.com:443
    curl -x http://127.0.0.1:9000 https://example.com/

A client is asyncio's while there is something to decide: here that is one request, and whatever may
have to be awaited for it, such as a database. Then its socket leaves asyncio, a running
muxcore.Server adopts it, and no byte of the tunnel comes back to asyncio's loop (RFC 9110, 9.3.6).
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import socket
import sys
from typing import TypeAlias

import muxcore
from muxcore import address

MAX_HEAD = 16_384  # bytes of a request
HEAD_TIMEOUT = 10  # s that a client may take for it
CONNECT_TIMEOUT = 5  # s that its destination may take
LIMITS = muxcore.Limits(idle_timeout=900)  # s in which no byte moves in a tunnel

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


# -- muxcore's part, in the server's own thread


class Tunnel:
    """The protocol of a client that was adopted: it connects, and joins."""

    def __init__(self, where: muxcore.Address, first: bytes) -> None:
        self._where = where
        self._first = first

    def connection_made(self, transport: muxcore.Transport) -> None:
        transport.pause_reading()  # what the client says from now on is for its destination
        far_end = functools.partial(FarEnd, transport, self._first)
        transport.server.connect(self._where, far_end, timeout=CONNECT_TIMEOUT)


class FarEnd:
    """The protocol of the destination until it is joined with the client."""

    def __init__(self, client: muxcore.Transport, first: bytes) -> None:
        self._client = client
        self._first = first

    def connection_made(self, transport: muxcore.Transport) -> None:
        transport.set_protocol(None)  # from here on it has nothing to hear
        if self._client.is_closing():
            transport.abort()
        else:
            self._client.relay(transport, first=self._first, back=ESTABLISHED)

    def connection_lost(self, exc: BaseException | None) -> None:  # there is no connection
        late = isinstance(exc, TimeoutError)
        self._client.write(refusal("504 Gateway Timeout" if late else "502 Bad Gateway"))
        self._client.close()


class Counters:
    """What the server itself listens for: it tells what it has done, and hangs up."""

    requires = frozenset({"adopt", "connect", "relay"})

    def connection_made(self, transport: muxcore.Transport) -> None:
        transport.write(f"{transport.server.stats()}\n".encode())
        transport.close()


# -- asyncio's part

Allowed: TypeAlias = dict[str, muxcore.Address]  # by what a client may ask for


class Refused(Exception):
    """A request that is not granted; the text is the status of the answer."""


async def destination(reader: asyncio.StreamReader, allowed: Allowed) -> muxcore.Address:
    """Read the request; return where it may go. Whatever else decides can be awaited here."""
    try:
        async with asyncio.timeout(HEAD_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused("431 Request Header Fields Too Large") from None
    except TimeoutError:
        raise Refused("408 Request Timeout") from None
    match head.partition(b"\r\n")[0].decode("latin-1").split(" "):
        case ["CONNECT", where, _] if where.lower() in allowed:
            return allowed[where.lower()]
        case ["CONNECT", _, _]:
            raise Refused("403 Forbidden")
        case [_, _, _]:
            raise Refused("501 Not Implemented")
        case _:
            raise Refused("400 Bad Request")


async def leave_asyncio(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[socket.socket, bytes]:
    """Take a client out of asyncio: return its socket, and what asyncio has read ahead.

    The loop does not run before the end of this (``read`` has nothing to wait for), so that no byte
    can arrive in between.
    """
    reader.feed_eof()  # for the reader only: now it returns what it has
    ahead = await reader.read()
    sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    writer.transport.abort()  # closes asyncio's descriptor; the connection lives on in ours
    return sock, ahead


async def admit(
    server: muxcore.Server,
    allowed: Allowed,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Serve one client until it is refused or handed over."""
    try:
        where = await destination(reader, allowed)
        sock, ahead = await leave_asyncio(reader, writer)
    except Refused as exc:
        writer.write(refusal(str(exc)))
        writer.close()
    except (asyncio.IncompleteReadError, OSError):  # it is gone
        writer.close()
    else:
        server.adopt(sock, functools.partial(Tunnel, where, ahead))


def refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def serve(server: muxcore.Server, where: muxcore.Address, allowed: Allowed) -> None:
    """Accept clients until SIGINT or SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    client = functools.partial(admit, server, allowed)
    listener = await asyncio.start_server(client, where.host, where.port, limit=MAX_HEAD)
    host, port = listener.sockets[0].getsockname()[:2]
    here = muxcore.Address(host, port)
    print(f"listening on {here} (counters at {server.addresses[0]})", flush=True)
    await stop.wait()
    listener.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Let clients CONNECT to some destinations.")
    parser.add_argument("address", metavar="ADDRESS", help="a port or HOST:PORT")
    parser.add_argument("allowed", metavar="HOST:PORT", nargs="+", help="where clients may go")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        allowed = {each.lower(): address.parse(each) for each in options.allowed}
        where = address.parse(options.address)
        if where.path:
            parser.error("this example listens on TCP only")
        with muxcore.Server(Counters, 0, engine=options.engine, limits=LIMITS) as server:
            asyncio.run(serve(server, where, allowed))
    except (muxcore.MuxcoreError, OSError) as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
