"""What the tests of asyncio's servers on an engine share: a protocol, and clients of asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import muxcore.aio as mux


class Upper(asyncio.Protocol):
    """It answers in upper case, and keeps what happened."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


class Kept:
    """A factory that keeps what it made."""

    def __init__(self, kind: Callable[[], Any] = Upper) -> None:
        self.kind = kind
        self.made: list[Any] = []

    def __call__(self) -> Any:
        self.made.append(self.kind())
        return self.made[-1]


async def started(factory: Callable[[], Any], host: Any = "127.0.0.1", **options: Any) -> Any:
    return await mux.create_server(None, factory, host, 0, **options)


async def dialled(server: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port, *_ = server.sockets[0].getsockname()
    return await asyncio.open_connection(host, port)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def ended(server: Any) -> None:
    """Close a server, and wait for the end of its last connection, in every Python."""
    server.close()
    await server._over.wait()
