"""aiohttp: its server, with files and websockets, under httpx and its own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web as aio

from . import web


def application(file: Path, go_on: asyncio.Event, is_asked: asyncio.Event) -> aio.Application:
    async def hello(request: aio.Request) -> aio.Response:
        return aio.Response(body=b"hello")

    async def peer(request: aio.Request) -> aio.Response:
        assert request.transport is not None
        return aio.Response(text=repr(request.transport.get_extra_info("peername")))

    async def large(request: aio.Request) -> aio.Response:
        return aio.Response(body=bytes(web.LARGE))

    async def chunks(request: aio.Request) -> aio.StreamResponse:
        response = aio.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in web.CHUNKS:
            await response.write(chunk)
        await response.write_eof()
        return response

    async def echo(request: aio.Request) -> aio.Response:
        return aio.Response(body=await request.read())

    async def fails(request: aio.Request) -> aio.Response:
        raise RuntimeError("as it should")

    async def slow(request: aio.Request) -> aio.Response:
        is_asked.set()
        await go_on.wait()
        return aio.Response(body=b"at last")

    async def of_file(request: aio.Request) -> aio.FileResponse:
        return aio.FileResponse(file)

    async def socket(request: aio.Request) -> aio.WebSocketResponse:
        ws = aio.WebSocketResponse(max_msg_size=64 << 20)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    app = aio.Application(client_max_size=64 << 20)
    get: list[Callable[..., object]] = [hello, peer, large, chunks, fails, slow]
    app.add_routes([aio.get(f"/{handler.__name__}", handler) for handler in get])  # type: ignore
    app.add_routes([aio.post("/echo", echo), aio.get("/file", of_file), aio.get("/ws", socket)])
    return app


async def seen(file: Path) -> web.Seen:
    """Serve, and return what clients see, to the end of it."""
    go_on, is_asked = asyncio.Event(), asyncio.Event()
    runner = aio.AppRunner(application(file, go_on, is_asked), access_log=None, shutdown_timeout=60)
    await runner.setup()
    await aio.TCPSite(runner, "127.0.0.1", 0).start()
    where = runner.addresses[0]
    found = await web.seen_by_clients(*where)
    async with aiohttp.ClientSession(f"http://{where[0]}:{where[1]}") as session:
        async with session.get("/file") as answer:
            found["a file"] = answer.status, web.digest(await answer.read())
        async with session.get("/file", headers={"Range": "bytes=1000-4999"}) as answer:
            found["a part of it"] = answer.status, web.digest(await answer.read())
        async with session.ws_connect("/ws", max_msg_size=64 << 20) as ws:
            for size in (0, 1, 70_000, 5 << 20):
                await ws.send_bytes(bytes(size))
                found[f"websocket: {size}"] = web.digest((await ws.receive()).data)
            await ws.close(code=4000)
            found["websocket: close"] = ws.close_code
    await web.gone_in_the_middle(*where)
    asked = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"
    slow = asyncio.ensure_future(web.by_hand(*where, asked))
    await is_asked.wait()
    ends = asyncio.ensure_future(runner.cleanup())
    while not await web.is_refused(*where):
        await asyncio.sleep(0.001)
    found["ended before the last answer"] = ends.done()
    go_on.set()
    found["the last answer"] = await slow
    await ends
    return found
