"""asyncio's Protocol echo on asyncio's loop with aiofastnet's transports.

python benchmarks/aiofastnet_echo.py 9000
"""

from __future__ import annotations

import asyncio

import aiofastnet
from _listening import announce, listener

from muxcore.compare.peers.asyncio_echo import Echo


async def serve() -> None:
    sock = listener()
    loop = asyncio.get_running_loop()
    server = await aiofastnet.create_server(loop, Echo, sock=sock)
    announce(sock, "aiofastnet")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
