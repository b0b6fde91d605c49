"""muxcore.aio's relay: each client's handler awaits a decision, then lets go.

python benchmarks/aio_relay.py 9000 127.0.0.1:9001 [asyncio|uvloop|handed]

"handed": in asyncio's loop; the handler does not wait for the end of its pair.
"""

from __future__ import annotations

import asyncio
import sys

from _hosting import host, run
from _listening import announce, listener

import muxcore.aio as mux


async def decided() -> str:
    """Return where a client goes: an answer that comes in the next turn, as a cache's would."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.set_result, sys.argv[2])
    return await answer


async def handle(conn: mux.Connection) -> None:
    await conn.relay(await mux.connect(await decided()))


async def hand_over(conn: mux.Connection) -> None:
    conn.hand_over(await mux.connect(await decided()))


async def serve() -> None:
    sock = listener()
    twin = sock.dup()  # the server takes the first
    handler = hand_over if sys.argv[-1] == "handed" else handle
    async with mux.serve(handler, sock, engine="native-epoll") as server:
        announce(twin, f"relay-aio on {host()}")
        await server.serve_forever()


if __name__ == "__main__":
    run(serve())
