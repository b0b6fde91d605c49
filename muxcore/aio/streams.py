"""Connections that come from elsewhere: asyncio's streams, and pairs for tests."""

from __future__ import annotations

import asyncio
import os
import socket

from muxcore import address
from muxcore.address import Address
from muxcore.aio.connection import Connection
from muxcore.aio.ends import End
from muxcore.aio.home import here
from muxcore.aio.inbox import Inbox
from muxcore.aio.opening import adopted, opened
from muxcore.errors import ConnectionClosed
from muxcore.parts.loop import LoopEngine
from muxcore.pool import Pool


async def splice(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upstream: Connection | Pool | str | int | Address,
    *,
    idle_timeout: float | None = None,
) -> End:
    """Join the connection of an asyncio stream pair with an upstream, and wait for the end of both.

    The connection leaves asyncio: what was written is sent first, what asyncio has read ahead goes
    to the upstream first, and the pair is closed for asyncio.

    Args:
        reader, writer: a pair of ``asyncio.start_server`` or ``open_connection``, without TLS.
        upstream: as of ``Connection.relay``; connected to while the pair is still asyncio's, so
            that a failure can be answered there.
        idle_timeout: as of ``Connection.relay``.

    Raises:
        ValueError: the pair has TLS, whose bytes only Python can read.
        ConnectionClosed: it is closing.
        NoUpstream, OSError, ConnectionClosed: see ``Connection.relay``.
    """
    if writer.get_extra_info("sslcontext") is not None:
        raise ValueError("splice(): the pair has TLS: only Python can read its bytes")
    if writer.is_closing():
        raise ConnectionClosed("splice() of a pair of streams: it is closing")
    if isinstance(upstream, Connection):
        other = upstream
    else:
        other = Connection(await opened(here(), upstream))
    try:
        client = Connection(await _moved(reader, writer, other._inbox.engine))
        try:
            return await client.relay(other, idle_timeout=idle_timeout)
        finally:
            client.abort()  # unless it was joined
    finally:
        other.abort()


async def _moved(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, engine: LoopEngine
) -> Inbox:
    """Take a connection out of asyncio, with what asyncio has read ahead."""
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()  # until all is sent
    # From here to the end the loop does not run: no byte can come in between
    reader.feed_eof()  # for the reader alone: now it returns what it has
    ahead = await reader.read()
    sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    writer.transport.abort()  # closes asyncio's descriptor; the connection lives on in ours
    inbox = adopted(engine, sock)
    inbox.data = ahead
    return inbox


def pair(peer: str | Address = "192.0.2.1:49152") -> tuple[Connection, Connection]:
    """Return two connections that are each other's peers, in memory: for tests of a handler.

    ::

        conn, client = muxcore.aio.pair()
        await client.send(b"hello")
        await handle(conn)

    They are the engine's like all others: verbs, flow control and ends are the real ones.

    Args:
        peer: what the first takes for its peer's address; the default is one for documentation
            (RFC 5737).
    """
    engine = here()
    conn, client = (Connection(adopted(engine, sock)) for sock in socket.socketpair())
    known = address.parse(peer)
    conn._inbox.transport._peername = known.path or (known.host, known.port)
    return conn, client
