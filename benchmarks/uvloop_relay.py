"""A relay written on asyncio protocols, on uvloop's loop: what one writes today.

python benchmarks/uvloop_relay.py 9000 127.0.0.1:9001
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvloop
from _listening import announce, listener


class Side(asyncio.Protocol):
    """One side of a pair; reading stops while the other side's buffer is above high water."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._other: Side | None = None
        self._early = b""
        self._ended = False

    def join(self, other: Side) -> None:
        self._other, other._other = other, self
        for side, peer in ((self, other), (other, self)):
            if side._early:
                peer._transport.write(side._early)
                side._early = b""
            if side._ended:
                peer._transport.write_eof()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other._transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._other is not None and self._other._transport.can_write_eof():
            self._other._transport.write_eof()
        return not (self._other is not None and self._other._ended)

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other._transport.abort() if exc else self._other._transport.close()


class Client(Side):
    tasks: set[asyncio.Task[None]]
    upstream: tuple[str, int]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, side = await loop.create_connection(Side, *self.upstream)
        except OSError:
            self._transport.abort()
            return
        self.join(side)


async def serve() -> None:
    host, _, port = sys.argv[2].rpartition(":")
    Client.upstream = (host, int(port))
    Client.tasks = set()
    sock = listener()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, sock=sock, backlog=socket.SOMAXCONN)
    announce(sock, "relay on uvloop")
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
