"""Connections that come from elsewhere, and connections as anyio has them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSStream

import muxcore.aio as mux
from muxcore.testing.peer import pattern

from .conftest import Runs, dialled, serving
from .test_connection import echo


@asynccontextmanager
async def of_asyncio(
    handler: object, **options: object
) -> AsyncIterator[tuple[str, list[BaseException]]]:
    """Serve with asyncio's streams; yield the address, and what handlers raised."""
    raised: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await handler(reader, writer)  # type: ignore[operator]
        except Exception as exc:
            raised.append(exc)
        finally:
            writer.close()

    server = await asyncio.start_server(kept, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", raised
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks)


def test_an_asyncio_pair_is_spliced_with_all_that_it_has_read_and_written(run: Runs) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        async with serving(echo) as behind:

            async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(pattern(1 << 20))
                assert await reader.readexactly(5) == b"hello"
                ends.append(await mux.splice(reader, writer, behind.addresses[0]))

            async with of_asyncio(handler) as (where, raised), await mux.connect(where) as client:
                await client.send(b"hello" + pattern(100_000))
                assert await client.receive_exactly(1 << 20) == pattern(1 << 20)
                assert await client.receive_exactly(100_000) == pattern(100_000)
                await client.send(b"more")
                assert await client.receive_exactly(4) == b"more"
                await client.send_eof()
                assert await client.receive() == b""
                local = str(client.local)
            assert raised == []
        (end,) = ends
        assert (end.client, end.upstream) == (local, behind.addresses[0])
        assert (end.reason, end.ended_by) == ("closed", "client")

    run(main)


def test_an_upstream_that_is_not_there_leaves_the_pair_with_asyncio(run: Runs) -> None:
    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await mux.splice(reader, writer, "127.0.0.1:1")
            except ConnectionRefusedError:
                writer.write(b"sorry")

        async with of_asyncio(handler) as (where, raised), await mux.connect(where) as client:
            assert await client.receive() == b"sorry"
            assert await client.receive() == b""
            assert raised == []

    run(main)


def test_what_cannot_be_spliced_is_refused_by_name(run: Runs) -> None:
    async def main() -> None:
        async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            await mux.splice(reader, writer, "127.0.0.1:1")

        async with of_asyncio(closed) as (where, raised), await mux.connect(where) as client:
            assert await client.receive() == b""
        assert "is closing" in str(raised[0])

    run(main)


def test_anyio_takes_a_connection_for_its_own(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        stream = mux.as_anyio(conn)
        other = mux.as_anyio(client)
        assert isinstance(stream, anyio.abc.ByteStream)
        await other.send(b"one\ntwo")
        assert await BufferedByteReceiveStream(stream).receive_until(b"\n", 10) == b"one"
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0):
                await stream.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.receive)
            await anyio.sleep(0)
            with pytest.raises(anyio.BusyResourceError):
                await stream.receive()
            await other.send(b"x")
        await other.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.send(b"still")
        assert await other.receive(3) == b"sti"
        await stream.aclose()
        for call in (stream.receive, lambda: stream.send(b"x"), stream.send_eof):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
        await other.aclose()

    run(main)


def test_anyio_knows_both_addresses(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            client = await dialled(server)
            stream = mux.as_anyio(client)
            host, port = server.addresses[0].split(":")
            attribute = anyio.abc.SocketAttribute
            assert stream.extra(attribute.remote_address) == (host, int(port))
            assert stream.extra(attribute.remote_port) == int(port)
            assert stream.extra(attribute.local_port) == client.local.port
            assert stream.extra(attribute.raw_socket).fileno() > 0
            await stream.aclose()

    run(main)


def test_anyios_tls_goes_over_a_connection(run: Runs) -> None:
    server_context, client_context = contexts()

    async def main() -> None:
        async def handler(conn: mux.Connection) -> None:
            stream = await TLSStream.wrap(mux.as_anyio(conn), ssl_context=server_context)
            await stream.send((await stream.receive()).upper())
            await stream.aclose()

        async with serving(handler) as server:
            plain = mux.as_anyio(await dialled(server))
            stream = await TLSStream.wrap(
                plain, hostname="localhost", ssl_context=client_context, server_side=False
            )
            await stream.send(b"hello")
            assert await stream.receive() == b"HELLO"
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            await stream.aclose()

    run(main)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's TLS, anonymous: RFC 8422 knows it, so no key is needed."""
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    both[1].check_hostname = False
    both[1].verify_mode = ssl.CERT_NONE
    for context in both:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")
    return both
