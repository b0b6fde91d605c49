"""The life of a server that ``create_server`` returns: asyncio's, on an engine."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

import muxcore.aio as mux

from .asyncio_side import Kept, Upper, closed, dialled, ended, started
from .conftest import Runs


def test_a_closed_server_accepts_nobody_and_serves_who_is_there(run: Runs) -> None:
    async def main() -> None:
        factory = Kept()
        server = await started(factory)
        where = server.sockets[0].getsockname()
        reader, writer = await dialled(server)
        writer.write(b"a")
        await reader.readexactly(1)
        waits = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        assert server.is_serving()
        server.close()
        server.close()
        assert not server.is_serving()
        assert not server.sockets
        await asyncio.sleep(0)  # libuv closes a listener at the turn's end
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*where)
        writer.write(b"b")
        assert await reader.readexactly(1) == b"B"
        assert not waits.done()
        await closed(writer)
        await waits
        assert factory.made[0].lost.done()
        await server.wait_closed()

    run(main)


def test_after_close_wait_closed_waits_as_asyncios_does_in_this_python(run: Runs) -> None:
    async def main() -> None:
        server = await started(Upper)
        reader, writer = await dialled(server)
        writer.write(b"a")
        await reader.readexactly(1)
        server.close()
        waits = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        assert waits.done() == (sys.version_info < (3, 12))
        await closed(writer)
        await waits
        await ended(server)

    run(main)


def test_another_thread_cannot_close_it(run: Runs) -> None:
    async def main() -> None:
        server = await started(Upper)
        with pytest.raises(RuntimeError, match="thread"):
            await asyncio.to_thread(server.close)
        assert server.is_serving()
        reader, writer = await dialled(server)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        await closed(writer)
        await ended(server)

    run(main)


def test_a_server_that_is_to_start_later_accepts_from_then_on(run: Runs) -> None:
    async def main() -> None:
        server = await started(Upper, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionError):
            await dialled(server)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        reader, writer = await dialled(server)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        await closed(writer)
        await ended(server)

    run(main)


def test_a_server_that_never_starts_closes_at_once(run: Runs) -> None:
    async def main() -> None:
        server = await started(Upper, start_serving=False)
        async with server:
            server.close_clients()
            server.abort_clients()
        await server.wait_closed()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.start_serving()

    run(main)


def test_serve_forever_ends_with_a_cancel_and_with_close(run: Runs) -> None:
    async def main() -> None:
        for end in ("cancel", "close"):
            server = await started(Upper, start_serving=False)
            serves = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            assert server.is_serving()
            assert server.get_loop() is asyncio.get_running_loop()
            with pytest.raises(RuntimeError, match="already"):
                await server.serve_forever()
            if end == "cancel":
                serves.cancel()
            else:
                server.close()
            with pytest.raises(asyncio.CancelledError):
                await serves
            assert not server.is_serving()
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()
            await ended(server)

    run(main)


def test_a_socket_of_the_callers_is_his_to_ask_until_the_server_closes(run: Runs) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        server: Any = await mux.create_server(None, Upper, sock=sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"a")
        assert await reader.readexactly(1) == b"A"
        await closed(writer)
        await ended(server)
        await asyncio.sleep(0)  # libuv closes it at the turn's end
        assert sock.fileno() == -1 or asyncio.get_running_loop().__module__.startswith("uvloop")
        sock.close()

    run(main)


@pytest.mark.parametrize("way", ["close_clients", "abort_clients"])
def test_a_server_ends_its_clients(way: str, run: Runs) -> None:
    async def main() -> None:
        factory = Kept()
        server = await started(factory)
        clients = [await dialled(server) for _ in range(3)]
        for reader, writer in clients:
            writer.write(b"a")
            await reader.readexactly(1)
        getattr(server, way)()
        for reader, writer in clients:
            assert await reader.read() == b""
            await closed(writer)
        assert [await each.lost for each in factory.made] == [None] * 3
        await ended(server)

    run(main)


@pytest.mark.parametrize("program", [SystemExit, KeyboardInterrupt])
def test_what_means_the_program_reaches_it(program: type[BaseException], run: Runs) -> None:
    class Ends(Upper):
        def data_received(self, data: bytes) -> None:
            raise program

    async def main() -> None:
        server = await started(Ends)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.send(b"a")
            await server.serve_forever()

    with pytest.raises(program):
        run(main)


def test_an_error_of_the_engine_is_told_to_the_loop_and_ends_the_server(run: Runs) -> None:
    async def main() -> None:
        def failing(wait: bool = True) -> None:
            raise OSError("as the kernel says")

        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        server = await started(Upper)
        reader, writer = await dialled(server)
        writer.write(b"a")
        await reader.readexactly(1)
        server._engine.turn = failing
        writer.write(b"a")
        await server._over.wait()
        assert str(told[0]["exception"]) == "as the kernel says"
        assert not server.is_serving()
        await closed(writer)

    run(main)


def test_with_the_loop_its_servers_end_and_everybody_hears(run: Runs) -> None:
    factory = Kept()
    clients: list[socket.socket] = []

    async def main() -> None:
        server = await started(factory)
        clients.append(socket.create_connection(server.sockets[0].getsockname()))
        while not factory.made:
            await asyncio.sleep(0)
        clients.pop().close()

    run(main)
    assert factory.made[0].lost.done()
