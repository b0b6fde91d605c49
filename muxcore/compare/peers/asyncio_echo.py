"""A Protocol echo on asyncio's own loop, or on uvloop's: the same program, another loop.

python asyncio_echo.py PORT [uvloop]
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def serve(port: int, name: str) -> None:
    """Serve until SIGTERM.

    Args:
        port: on loopback; 0 takes a free one.
        name: of this server, in the line that says where it listens.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port, backlog=socket.SOMAXCONN)
    loop.add_signal_handler(signal.SIGTERM, sys.exit, 0)
    where = server.sockets[0].getsockname()
    print(f"listening on 127.0.0.1:{where[1]} ({name})", flush=True)
    await server.serve_forever()


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    if "uvloop" in sys.argv[2:]:
        import uvloop

        uvloop.run(serve(port, "uvloop"))
    else:
        asyncio.run(serve(port, "asyncio"))


if __name__ == "__main__":
    main()
