"""A relay on asyncio's streams: what one writes today, where a decision is awaited.

python benchmarks/streams_relay.py 9000 127.0.0.1:9001 [asyncio|uvloop]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from _hosting import host, run
from _listening import announce, listener
from aio_relay import decided


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    where, _, port = (await decided()).rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(where, int(port))
    try:
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    finally:
        far_writer.close()
        writer.close()


async def serve() -> None:
    sock = listener()
    server = await asyncio.start_server(handle, sock=sock, backlog=socket.SOMAXCONN)
    announce(sock, f"relay-streams on {host()}")
    await server.serve_forever()


if __name__ == "__main__":
    run(serve())
