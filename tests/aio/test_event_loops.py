"""Loops of which every server is an engine's, and what of them is the loop's own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore.aio as mux
from muxcore.aio import dropin
from muxcore.aio.asyncio_server import AsyncioServer

from .asyncio_side import Kept, Upper, closed, dialled, ended
from .conftest import Runs

Certificate = Callable[[str], tuple[Path, Path]]

LOOPS = {"asyncio": mux.new_event_loop, "uvloop": mux.new_uvloop}


@pytest.fixture(params=LOOPS)
def run_ours(request: pytest.FixtureRequest, engine: str) -> Runs:
    """Run an async function in a loop whose servers are ours."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def run(main: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main())

    return run


def test_in_a_loop_of_ours_every_plain_server_is(run_ours: Runs, tmp_path: Path) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await closed(writer)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        servers: list[Any] = [
            await loop.create_server(Upper, "127.0.0.1", 0),
            await asyncio.start_server(upper, "127.0.0.1", 0),
            await asyncio.start_unix_server(upper, path),
            await mux.create_server(loop, Upper, "127.0.0.1", 0),
        ]
        assert all(isinstance(server, AsyncioServer) for server in servers)
        for server in servers:
            if server is servers[2]:
                reader, writer = await asyncio.open_unix_connection(path)
            else:
                reader, writer = await dialled(server)
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            await closed(writer)
            await ended(server)

    run_ours(main)


def contexts(certificate_for: Certificate) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificate, key = certificate_for("localhost")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    return theirs, ssl.create_default_context(cafile=str(certificate))


def test_a_server_with_tls_is_the_loops_own(run_ours: Runs, certificate_for: Certificate) -> None:
    theirs, ours = contexts(certificate_for)

    async def main() -> None:
        server: Any = await asyncio.get_running_loop().create_server(
            Upper, "127.0.0.1", 0, ssl=theirs
        )
        assert not isinstance(server, AsyncioServer)
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            host, port, ssl=ours, server_hostname="localhost"
        )
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.transport.abort()
        server.close()

    run_ours(main)


def test_a_server_of_a_family_that_no_engine_knows_is_the_loops_own(
    run_ours: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Upper, "127.0.0.1", 0)
        assert not isinstance(server, AsyncioServer)
        reader, writer = await dialled(server)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        await closed(writer)
        server.close()

    # Which others there are depends on the machine; that it is asked does not
    monkeypatch.setattr(dropin, "_FAMILIES", (socket.AF_UNIX,))
    run_ours(main)


def test_tls_may_begin_later_on_a_connection_of_ours(
    run_ours: Runs, certificate_for: Certificate
) -> None:
    theirs, ours = contexts(certificate_for)

    async def secure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        await writer.start_tls(theirs)
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(secure, "127.0.0.1", 0)
        assert isinstance(server, AsyncioServer)
        reader, writer = await dialled(server)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        await writer.start_tls(ours, server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        writer.close()
        await ended(server)

    run_ours(main)


def test_sendfile_says_that_it_is_not_there_as_uvloop_does(run_ours: Runs) -> None:
    async def main() -> None:
        factory = Kept()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        reader, writer = await dialled(server)
        writer.write(b"a")
        await reader.readexactly(1)
        with open(__file__, "rb") as file, pytest.raises(NotImplementedError):
            await loop.sendfile(factory.made[0].transport, file)
        await closed(writer)
        await ended(server)

    run_ours(main)
