"""asyncio's streams: read and write, awaited in asyncio's loop or uvloop's.

python benchmarks/streams_echo.py 9000 [asyncio|uvloop]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from _hosting import host, run
from _listening import announce, listener


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve() -> None:
    sock = listener()
    server = await asyncio.start_server(handle, sock=sock, backlog=socket.SOMAXCONN)
    announce(sock, f"streams-{host()}")
    await server.serve_forever()


if __name__ == "__main__":
    run(serve())
