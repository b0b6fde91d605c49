"""uvicorn, with an application in plain ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from . import web

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class App:
    """Answers what ``web`` asks for; ``/slow`` once ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await socket(receive, send)
            return
        assert scope["type"] == "http"
        body, status = [b"not found"], 404
        if scope["path"] == "/hello":
            body, status = [b"hello"], 200
        elif scope["path"] == "/peer":
            body, status = [repr(scope["client"]).encode()], 200
        elif scope["path"] == "/loop":
            body, status = [type(asyncio.get_running_loop()).__name__.encode()], 200
        elif scope["path"] == "/large":
            body, status = [bytes(web.LARGE)], 200
        elif scope["path"] == "/chunks":
            body, status = web.CHUNKS, 200
        elif scope["path"] == "/fails":
            raise RuntimeError("as it should")
        elif scope["path"] == "/slow":
            self.is_asked.set()
            await self.go_on.wait()
            body, status = [b"at last"], 200
        elif scope["path"] == "/echo":
            body, status = [], 200
            more = True
            while more:
                message = await receive()
                body.append(message.get("body", b""))
                more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": status, "headers": []})
        for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


async def socket(receive: Receive, send: Send) -> None:
    """Echo over a websocket until it is closed."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


app = App()


async def seen(http: str) -> web.Seen:
    """Serve, and return what clients see, to the end of it."""
    app = App()
    config = uvicorn.Config(
        app, port=0, http=http, lifespan="off", log_level="critical", ws_max_size=64 << 20
    )
    server = uvicorn.Server(config)
    serves = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    where = server.servers[0].sockets[0].getsockname()
    found = await web.seen_by_clients(*where)
    async with connect(f"ws://{where[0]}:{where[1]}", max_size=None, proxy=None) as ws:
        for size in (0, 1, 70_000, 5 << 20):
            await ws.send(bytes(size))
            found[f"websocket: {size}"] = web.digest(await ws.recv(decode=False))
        await ws.close(code=4000)
        found["websocket: close"] = ws.close_code
    await web.gone_in_the_middle(*where)
    asked = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"
    slow = asyncio.ensure_future(web.by_hand(*where, asked))
    await app.is_asked.wait()
    server.should_exit = True
    while not await web.is_refused(*where):
        await asyncio.sleep(0.001)
    found["ended before the last answer"] = serves.done()
    app.go_on.set()
    found["the last answer"] = await slow
    await serves
    found["left"] = len(server.server_state.connections)
    return found
