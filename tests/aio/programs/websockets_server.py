"""websockets: an echo, under its own client."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .web import MANY, Seen, digest

SIZES = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 20 << 20]


async def seen() -> Seen:
    """Serve, and return what clients see, to the end of it."""
    ends: list[tuple[int, str] | None] = []

    async def echo(ws: ServerConnection) -> None:
        try:
            async for message in ws:
                await ws.send(message)
        finally:
            closed = ws.protocol.close_rcvd
            ends.append((int(closed.code), closed.reason) if closed else None)

    found: Seen = {}
    options: dict[str, Any] = {"max_size": None, "compression": None, "proxy": None}
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        where = f"ws://{host}:{port}"
        async with connect(where, **options) as ws:
            for size in SIZES:
                await ws.send(bytes(size))
                found[f"message: {size}"] = digest(await ws.recv(decode=False))
            await ws.send(bytes([piece]) * 50_000 for piece in range(40))
            found["in fragments"] = digest(await ws.recv(decode=False))
            found["ping"] = await (await ws.ping()) >= 0
            await ws.send("all at once")
            await asyncio.gather(*(ws.send(bytes(100_000)) for _ in range(100)))
            found["text"] = await ws.recv()
            found["a hundred"] = [digest(await ws.recv(decode=False)) for _ in range(100)]
            await ws.close(code=4000, reason="enough")
            found["its close"] = ws.close_code, ws.close_reason
        async with connect(where, proxy=None) as ws:
            await ws.send("deflated" * 1000)
            found["compressed"] = await ws.recv()
        ws = await connect(where, **options)
        ws.transport.abort()
        many = await asyncio.gather(*(connect(where, **options) for _ in range(MANY)))
        await asyncio.gather(*(each.send(str(number)) for number, each in enumerate(many)))
        found["many"] = await asyncio.gather(*(each.recv() for each in many))
        server.close()
        codes: list[object] = []
        for each in many:
            try:
                await each.recv()
            except ConnectionClosed as exc:
                codes.append(exc.rcvd and exc.rcvd.code)
    found["when the server closes"] = codes
    found["ends"] = ends[:2], len(ends), ends.count(None)
    return found
