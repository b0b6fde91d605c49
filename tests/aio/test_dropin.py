"""asyncio's ``create_server`` and its kin, on an engine: what is served, and what is refused."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from pathlib import Path
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.aio.asyncio_server import AsyncioServer

from .asyncio_side import Kept, Upper, closed, dialled, ended, started
from .conftest import Runs

LARGE = 80 << 20  # more than Limits.write_buffer is elsewhere


def test_a_protocol_of_asyncios_gets_the_engines_own_transport(run: Runs, engine: str) -> None:
    async def main() -> None:
        factory = Kept()
        server = await started(factory)
        reader, writer = await dialled(server)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        transport = factory.made[0].transport
        assert transport.get_extra_info("engine") == engine
        assert transport.get_extra_info("peername") == writer.get_extra_info("sockname")
        assert transport.get_extra_info("sockname") == server.sockets[0].getsockname()
        assert transport.get_extra_info("socket").family == socket.AF_INET
        assert transport.get_extra_info("sslcontext") is None
        await closed(writer)
        assert await factory.made[0].lost is None
        await ended(server)

    run(main)


def test_a_buffered_protocol_is_served(run: Runs) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.buffer = bytearray(3)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.transport.write(self.buffer[:nbytes].upper())

    async def main() -> None:
        server = await started(Buffered)
        reader, writer = await dialled(server)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        await closed(writer)
        await ended(server)

    run(main)


def test_a_protocol_of_asyncios_may_let_go_with_a_verb(run: Runs) -> None:
    class Router(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.relay(where, first=data)

    where = ""

    async def main() -> None:
        nonlocal where
        behind = await started(Upper)
        where = "{}:{}".format(*behind.sockets[0].getsockname())
        server = await started(Router)
        reader, writer = await dialled(server)
        for data in (b"hello", b"again"):
            writer.write(data)
            assert await reader.readexactly(5) == data.upper()
        await closed(writer)
        await ended(server)
        await ended(behind)

    run(main)


@pytest.mark.parametrize("unix", [False, True])
def test_streams_are_served(unix: bool, run: Runs, tmp_path: Path) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        await closed(writer)

    async def main() -> None:
        path = str(tmp_path / "socket")
        server: Any
        if unix:
            server = await mux.start_unix_server(upper, path)
            reader, writer = await asyncio.open_unix_connection(path)
        else:
            server = await mux.start_server(upper, "127.0.0.1", 0)
            reader, writer = await dialled(server)
        assert isinstance(server, AsyncioServer)
        writer.write(b"hello\n")
        assert await reader.read() == b"HELLO\n"
        await closed(writer)
        await ended(server)

    run(main)


def test_several_hosts_are_served(run: Runs) -> None:
    async def main() -> None:
        server = await started(Upper, ["127.0.0.1", "127.0.0.2"])
        assert len(server.sockets) == 2
        for sock in server.sockets:
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(b"a")
            assert await reader.readexactly(1) == b"A"
            await closed(writer)
        await ended(server)

    run(main)


def test_what_the_loop_refuses_is_refused_and_nothing_stays_open(run: Runs) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as sock:
            with pytest.raises(OSError, match="ddress"):
                await mux.create_server(None, Upper, *taken.getsockname())
            with pytest.raises(ValueError, match="host/port and sock"):
                await mux.create_server(None, Upper, "127.0.0.1", 0, sock=sock)
        with pytest.raises(TypeError):
            await mux.create_server(None, Upper, "127.0.0.1", 0, ssl=True)
        with pytest.raises(TypeError):
            await mux.create_server(None, Upper, "127.0.0.1", 0, nonsense=1)

    run(main)


def test_a_coroutine_is_no_factory(run: Runs) -> None:
    async def factory() -> Upper:
        return Upper()

    async def main() -> None:
        with pytest.raises(muxcore.ServiceError):
            await started(factory)

    run(main)


def test_an_engine_that_cannot_be_a_guest_is_refused(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with pytest.raises(muxcore.CapabilityMissing):
            await started(Upper)

    monkeypatch.setenv("MUXCORE_ENGINE", "pure-select")
    run(main)


def test_callbacks_run_in_a_copy_of_the_context_that_the_server_was_made_in(run: Runs) -> None:
    seen: list[str] = []
    name = contextvars.ContextVar("name", default="none")

    class Asks(Upper):
        def data_received(self, data: bytes) -> None:
            seen.append(name.get())
            super().data_received(data)

    async def main() -> None:
        name.set("a server")
        server = await started(Asks)
        name.set("a client")
        reader, writer = await dialled(server)
        writer.write(b"a")
        await reader.readexactly(1)
        await closed(writer)
        await ended(server)

    run(main)
    assert seen == ["a server"]


def test_an_answer_in_one_piece_may_be_larger_than_the_cap_elsewhere(run: Runs) -> None:
    class Answers(Upper):
        def data_received(self, data: bytes) -> None:
            self.transport.write(bytes(LARGE))
            self.transport.close()

    async def main(**options: Any) -> int:
        server = await started(Answers, **options)
        reader, writer = await dialled(server)
        writer.write(b"a")
        size = 0
        try:
            while data := await reader.read(1 << 20):
                size += len(data)
            await closed(writer)
        except ConnectionError:
            size = -1
        await ended(server)
        return size

    assert run(main) == LARGE
    limits = muxcore.Limits(write_buffer=1 << 20)
    assert run(lambda: main(limits=limits)) == -1
