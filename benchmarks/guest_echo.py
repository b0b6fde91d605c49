"""muxcore's callbacks as a guest of another loop: the same Protocol echo, the same loops.

python benchmarks/guest_echo.py 9000 [asyncio|uvloop]
"""

from __future__ import annotations

from _hosting import host, run
from _listening import announce, listener

import muxcore
from muxcore.compare.peers.asyncio_echo import Echo


async def serve() -> None:
    sock = listener()
    twin = sock.dup()  # the server takes the first
    server = muxcore.Server(Echo, sock, engine="native-epoll")
    await server.run_async(lambda server: announce(twin, f"guest-{host()}"))


if __name__ == "__main__":
    run(serve())
