"""muxcore.aio's handlers: receive and send, awaited in a host loop.

python benchmarks/aio_echo.py 9000 [asyncio|uvloop]
"""

from __future__ import annotations

from _hosting import host, run
from _listening import announce, listener

import muxcore.aio as mux


async def handle(conn: mux.Connection) -> None:
    while data := await conn.receive():
        await conn.send(data)


async def serve() -> None:
    sock = listener()
    twin = sock.dup()  # the server takes the first
    async with mux.serve(handle, sock, engine="native-epoll") as server:
        announce(twin, f"aio-{host()}")
        await server.serve_forever()


if __name__ == "__main__":
    run(serve())
