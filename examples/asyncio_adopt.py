"""A proxy for HTTP's CONNECT, a program of asyncio's streams that lets muxcore move the bytes.

    python examples/asyncio_adopt.py 9000 example.com:443
    curl -x http://127.0.0.1:9000 https://example.com/

A client is asyncio's while there is something to decide: here that is one request, and whatever may
have to be awaited for it. Then muxcore.aio adopts its connection, and no byte of the tunnel comes
back to asyncio's streams (RFC 9110, 9.3.6). Who begins anew needs no streams: see one_port.py.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import sys

import muxcore
import muxcore.aio as mux
from muxcore import address

MAX_HEAD = 16_384  # bytes of a request
HEAD_TIMEOUT = 10  # s that a client may take for it
CONNECT_TIMEOUT = 5  # s that its destination may take
IDLE_TIMEOUT = 900  # s in which no byte moves in a tunnel

Allowed = dict[str, muxcore.Address]  # by what a client may ask for


class Refused(Exception):
    """A request that is not granted; the text is the status of the answer."""


async def serve_client(
    allowed: Allowed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one client of asyncio.start_server."""
    try:
        where = await destination(reader, allowed)
        async with await connected(where) as upstream:
            writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            # What asyncio has read ahead goes first; the pair is closed for asyncio by this.
            end = await mux.splice(reader, writer, upstream, idle_timeout=IDLE_TIMEOUT)
        print(
            f"{end.client} to {end.upstream}: {end.bytes_up} up, {end.bytes_down} down", flush=True
        )
    except Refused as exc:
        writer.write(f"HTTP/1.1 {exc}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    except (asyncio.IncompleteReadError, OSError):
        pass  # it is gone: amid its request, or before its tunnel was there
    finally:
        writer.close()


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


async def connected(where: muxcore.Address) -> mux.Connection:
    try:
        return await mux.connect(where, timeout=CONNECT_TIMEOUT)
    except TimeoutError:
        raise Refused("504 Gateway Timeout") from None
    except OSError:
        raise Refused("502 Bad Gateway") from None


async def serve(where: muxcore.Address, allowed: Allowed) -> None:
    """Accept clients until SIGINT or SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    client = functools.partial(serve_client, allowed)
    listener = await asyncio.start_server(client, where.host, where.port, limit=MAX_HEAD)
    host, port = listener.sockets[0].getsockname()[:2]
    print(f"listening on {muxcore.Address(host, port)}", flush=True)
    await stop.wait()
    listener.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Let clients CONNECT to some destinations.")
    parser.add_argument("address", metavar="ADDRESS", help="a port or HOST:PORT")
    parser.add_argument("allowed", metavar="HOST:PORT", nargs="+", help="where clients may go")
    parser.add_argument("--engine", help="see `muxcore engines`; default: the best one here")
    options = parser.parse_args()
    try:
        engine = muxcore.engine(options.engine)
        if "guest" not in engine.capabilities:
            parser.exit(1, f"{parser.prog}: {engine.name} cannot be a guest in asyncio's loop\n")
        os.environ["MUXCORE_ENGINE"] = engine.name  # of what the loop's own tasks open
        allowed = {each.lower(): address.parse(each) for each in options.allowed}
        where = address.parse(options.address)
        if where.path:
            parser.error("this example listens on TCP only")
        asyncio.run(serve(where, allowed))
    except (muxcore.MuxcoreError, OSError) as exc:
        parser.exit(1, f"{parser.prog}: {exc}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
