"""asyncio's Protocol echo on asyncio's own loop.

python benchmarks/asyncio_echo.py 9000
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from _listening import announce, listener


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def serve(peer: str = "asyncio") -> None:
    sock = listener()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=sock, backlog=socket.SOMAXCONN)
    announce(sock, peer)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
