"""Handlers behind a proxy, and upstreams that are told whose connection it is."""

from __future__ import annotations

import muxcore
import muxcore.aio as mux
from muxcore.parsers import build_proxy_header, proxy_header

from .conftest import Runs, dialled, serving

CLIENT, TO = ("192.0.2.7", 4711), ("203.0.113.1", 443)
HEADER = build_proxy_header(CLIENT, TO, tlvs=[(5, b"id")])


def behind(handler: object) -> muxcore.BehindProxy:
    return muxcore.BehindProxy(handler, trusted=["127.0.0.0/8"], timeout=60)


def test_a_handlers_peer_is_the_client(run: Runs) -> None:
    async def handler(conn: mux.Connection) -> None:
        header = conn.extra("proxy")
        told = f"{conn.peer} {conn.local} {conn.extra('proxy_peername')} {header.unique_id}"
        await conn.send(told.encode() + b" " + await conn.receive_exactly(5))

    async def main() -> None:
        wrapped = behind(handler)
        async with serving(wrapped) as server, await dialled(server) as client:
            await client.send(HEADER + b"hello")
            told = b"".join([chunk async for chunk in client]).decode()
            own = client.extra("sockname")
            assert told == f"192.0.2.7:4711 203.0.113.1:443 {own} b'id' hello"
            assert wrapped.counts == {"clients": 1}

    run(main)


def test_who_is_not_trusted_never_comes_to_a_handler(run: Runs) -> None:
    called = []

    async def handler(conn: mux.Connection) -> None:
        called.append(conn)

    async def main() -> None:
        wrapped = muxcore.BehindProxy(handler, trusted=["10.0.0.0/8"])
        async with serving(wrapped) as server, await dialled(server) as client:
            try:
                await client.send(HEADER)
                assert await client.receive() == b""
            except OSError:
                pass
        assert called == []
        assert wrapped.counts == {"untrusted": 1}

    run(main)


def test_an_upstream_is_told_whose_connection_it_is(run: Runs) -> None:
    heard: list[object] = []

    async def tells(conn: mux.Connection) -> None:
        header = await conn.peek(mux.proxy_header)
        await conn.receive_exactly(header.size)
        heard.append((header.command, header.source, header.destination, header.unique_id))
        await conn.send(await conn.receive())

    async def main() -> None:
        async with serving(tells) as upstream:
            pool = mux.Pool(upstream.addresses[0], send_proxy="v2")

            async def handler(conn: mux.Connection) -> None:
                word = await conn.receive_exactly(3)
                if word == b"one":
                    await conn.relay(pool)
                    return
                theirs = await pool.connect(proxy_for=conn if word == b"two" else None)
                await conn.relay(theirs)

            async with serving(behind(handler)) as server:
                for word in (b"one", b"two", b"own"):
                    async with await dialled(server) as client:
                        await client.send(HEADER + word + b"hello")
                        assert await client.receive_exactly(5) == b"hello"
            told = ("PROXY", CLIENT, TO, b"id")
            assert heard == [told, told, ("LOCAL", None, None, None)]

    run(main)


def test_without_a_proxy_the_upstream_is_told_the_sockets_addresses(run: Runs) -> None:
    async def tells(conn: mux.Connection) -> None:
        await conn.send(await conn.receive_until(b"\r\n"))

    async def main() -> None:
        async with serving(tells) as upstream:
            pool = mux.Pool(upstream.addresses[0], send_proxy="v1")

            async def handler(conn: mux.Connection) -> None:
                await conn.relay(pool)

            async with serving(handler) as server, await dialled(server) as client:
                line = await client.receive_until(b"\r\n")
                found = proxy_header(line)
                assert found is not None
                assert found.source == client.extra("sockname")
                assert found.destination == client.extra("peername")

    run(main)
