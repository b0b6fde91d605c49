"""Services that workers import by their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import muxcore.aio as mux

HERE = os.getpid()  # a child that the process model forks tells whose it is


class Pid:
    """Says which worker serves, and sends back what comes."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(b"%d\n" % HERE)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def note() -> None:
    """Note which worker was set up, in the current folder."""
    Path("noted").write_text(str(HERE))


class Says:
    """A service whose objects can be pickled."""

    def __init__(self, what: bytes) -> None:
        self._what = what

    def __call__(self) -> _Saying:
        return _Saying(self._what)


class _Saying:
    def __init__(self, what: bytes) -> None:
        self._what = what

    def connection_made(self, transport: Any) -> None:
        transport.write(self._what)
        transport.close()


class Fails:
    """One that the parent takes, and no worker can."""

    parent = os.getpid()

    @property
    def requires(self) -> frozenset[str]:
        if os.environ.get("TESTED_PARENT") != str(os.getpid()):
            raise OSError("no such disk")
        return frozenset()

    def __call__(self) -> Pid:
        return Pid()


async def echo(conn: mux.Connection) -> None:
    """Say which worker serves, and send back what comes."""
    await conn.send(b"%d\n" % HERE)
    async for data in conn:
        await conn.send(data)


async def relay(conn: mux.Connection) -> None:
    """Join a client with the upstream that it names in a line."""
    line = b""
    while not line.endswith(b"\n"):
        line += await conn.receive(1)
    async with await mux.connect(line.decode().strip()) as upstream:
        await conn.relay(upstream)
