"""muxcore's callbacks as a guest of another loop: the same Protocol echo, the same loops.

python benchmarks/guest_echo.py 9000 [asyncio|uvloop]
"""

from __future__ import annotations

import asyncio
import sys

from _listening import announce, listener
from asyncio_echo import Echo

import muxcore


async def serve(host: str) -> None:
    sock = listener()
    twin = sock.dup()  # the server takes the first
    server = muxcore.Server(Echo, sock, engine="native-epoll")
    await server.run_async(lambda server: announce(twin, f"guest-{host}"))


if __name__ == "__main__":
    if sys.argv[2:] == ["uvloop"]:
        import uvloop

        uvloop.run(serve("uvloop"))
    else:
        asyncio.run(serve("asyncio"))
