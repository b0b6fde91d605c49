"""muxcore in your own asyncio program: await the decision, then let the engine move the bytes.

::

    import muxcore.aio as mux

    async def handle(conn: mux.Connection) -> None:      # a task of your loop, one for each client
        hello = await conn.peek(mux.tls_client_hello)      # the bytes stay in the connection
        upstream = await pool_of(hello.server_name).connect()
        end = await conn.relay(upstream, idle_timeout=600)  # nothing of it in your loop

    async with mux.serve(handle, "0.0.0.0:443") as server:
        await server.serve_forever()

It runs in asyncio's loop, or uvloop's. From what is used to what it stands on:

- ``serving``: ``serve``, and the server's life: it begins, drains, ends; ``working``: the same in
  workers;
- ``handling``: a handler is called for each client, as a task;
- ``pool``: ``connect``, and ``Pool``; ``streams``: connections that come from elsewhere;
- ``connection``: what a task does with a connection;
- ``ends``: how it ended that a verb had; ``inbox``: what has come for it, and who waits;
  ``wake``: how a task that waits goes on;
- ``opening``: connections are opened; ``home``: which engine a task is at home with;
- ``signals``: SIGTERM and SIGINT; ``anyio_stream``: a connection as anyio has them.

Servers that exist need no other code. From what is used to what it stands on:

- ``event_loops``: loops of which every server is an engine's;
- ``dropin``: asyncio's ``create_server`` and its kin; ``asyncio_server``: what they return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from muxcore.aio.connection import Connection
from muxcore.aio.dropin import create_server, create_unix_server, start_server, start_unix_server
from muxcore.aio.ends import End
from muxcore.aio.event_loops import new_event_loop, new_uvloop
from muxcore.aio.pool import Pool, connect
from muxcore.aio.serving import Client, Server, serve
from muxcore.aio.streams import pair, splice
from muxcore.errors import (
    ConnectionClosed,
    EndOfStream,
    NoUpstream,
    ParseError,
    Stopped,
    TooLong,
)
from muxcore.limits import Limits
from muxcore.parsers import (
    http_head,
    postgres_error,
    postgres_startup,
    protocol_of,
    proxy_header,
    tls_alert,
    tls_client_hello,
)
from muxcore.pool import Check, Upstream

if TYPE_CHECKING:
    import anyio.abc

__all__ = [
    "Check",
    "Client",
    "Connection",
    "ConnectionClosed",
    "End",
    "EndOfStream",
    "Limits",
    "NoUpstream",
    "ParseError",
    "Pool",
    "Server",
    "Stopped",
    "TooLong",
    "Upstream",
    "as_anyio",
    "connect",
    "create_server",
    "create_unix_server",
    "http_head",
    "new_event_loop",
    "new_uvloop",
    "pair",
    "postgres_error",
    "postgres_startup",
    "protocol_of",
    "proxy_header",
    "serve",
    "splice",
    "start_server",
    "start_unix_server",
    "tls_alert",
    "tls_client_hello",
]

# What may change in any version: docs/stability.md
_EXPERIMENTAL = (
    "as_anyio",
    "create_server",
    "create_unix_server",
    "new_event_loop",
    "new_uvloop",
    "splice",
    "start_server",
    "start_unix_server",
)


def as_anyio(conn: Connection) -> anyio.abc.ByteStream:
    """Return a connection as an ``anyio.abc.ByteStream``, with anyio's own errors.

    anyio's TLS and buffered streams wrap it. It needs the extra ``muxcore[anyio]``.

    Raises:
        ImportError: anyio is not installed.
    """
    from muxcore.aio.anyio_stream import AnyioStream

    return AnyioStream(conn)
