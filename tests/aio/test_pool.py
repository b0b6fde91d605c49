"""Connections to one of several upstreams: they are counted until they end, however that is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest

import muxcore
import muxcore.aio as mux

from .conftest import Runs, dialled, serving
from .test_connection import echo


def unused() -> str:
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


def active(pool: mux.Pool) -> int:
    return sum(upstream.active for upstream in pool.stats().values())


def test_the_next_is_tried_where_one_refuses(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            refuses = unused()
            pool = mux.Pool(refuses, behind.addresses[0])
            async with await pool.connect() as upstream:
                await upstream.send(b"hello")
                assert await upstream.receive_exactly(5) == b"hello"
                assert active(pool) == 1
            assert active(pool) == 0
            assert pool.stats()[refuses].state == "resting"

    run(main)


def test_where_none_takes_it_the_error_has_every_reason(run: Runs) -> None:
    async def main() -> None:
        first, second, third = unused(), unused(), unused()
        pool = mux.Pool(first, second, third)
        with pytest.raises(mux.NoUpstream) as caught:
            await pool.connect(tries=2)
        tried = [where for where, _ in caught.value.reasons]
        assert tried[0] == first
        assert tried[1] in (second, third)
        assert len(tried) == 2
        with pytest.raises(ValueError, match="tries"):
            await pool.connect(tries=0)
        assert active(pool) == 0

    run(main)


def test_who_waits_for_a_place_has_it_in_turn_and_leaves_when_cancelled(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0], max_active=1, queue=2, queue_timeout=60)
            first = await pool.connect()
            tasks = [asyncio.create_task(pool.connect()) for _ in range(2)]
            while pool.waiting < 2:
                await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            assert pool.waiting == 1
            first.abort()
            second = await tasks[1]
            await second.send(b"hello")
            assert await second.receive_exactly(5) == b"hello"
            second.abort()

    run(main)


def test_one_that_is_full_is_not_taken(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0], max_active=1)
            async with await pool.connect():
                with pytest.raises(mux.NoUpstream, match="max_active"):
                    await pool.connect()
            async with await pool.connect():
                assert active(pool) == 1
        assert active(pool) == 0

    run(main)


async def closes(conn: mux.Connection, upstream: mux.Connection) -> None:
    await upstream.aclose()


async def aborts(conn: mux.Connection, upstream: mux.Connection) -> None:
    upstream.abort()


async def relays(conn: mux.Connection, upstream: mux.Connection) -> None:
    await conn.relay(upstream)


async def hands_over(conn: mux.Connection, upstream: mux.Connection) -> None:
    conn.hand_over(upstream)


async def cancels(conn: mux.Connection, upstream: mux.Connection) -> None:
    async with asyncio.timeout(0):
        await conn.relay(upstream)


Act = Callable[[mux.Connection, mux.Connection], Awaitable[None]]


@pytest.mark.parametrize("act", [closes, aborts, relays, hands_over, cancels])
def test_a_connection_of_a_pool_is_counted_until_its_end(run: Runs, act: Act) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0])

            async def handler(conn: mux.Connection) -> None:
                upstream = await pool.connect()
                assert active(pool) == 1
                await act(conn, upstream)

            async with serving(handler) as server:
                client = await dialled(server)
                if act in (relays, hands_over):
                    await client.send(b"hello")
                    assert await client.receive_exactly(5) == b"hello"
                    assert active(pool) == 1
                    await client.send_eof()
                assert await client.receive() == b""
                await client.aclose()
                await server.drain()
            assert active(pool) == 0
            assert pool.stats()[behind.addresses[0]].total == 1

    run(main)


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_pair_that_one_side_ends_is_counted_no_more(run: Runs, side: str) -> None:
    async def main() -> None:
        async def once(conn: mux.Connection) -> None:
            await conn.send(await conn.receive())
            if side == "client":
                await conn.receive()

        async with serving(once) as behind:
            pool = mux.Pool(behind.addresses[0])

            async def handler(conn: mux.Connection) -> None:
                conn.hand_over(await pool.connect())

            async with serving(handler) as server, await dialled(server) as client:
                await client.send(b"x")
                assert await client.receive() == b"x"
                if side == "client":
                    await client.send_eof()
                assert await client.receive() == b""
                await client.aclose()
                await server.drain()
                assert active(pool) == 0

    run(main)


def test_a_cancelled_connect_is_counted_nowhere(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0])
            for turns in range(12):
                connecting = asyncio.create_task(pool.connect())
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                try:
                    (await connecting).abort()
                except asyncio.CancelledError:
                    pass
            for _ in range(20):
                await asyncio.sleep(0)
            assert active(pool) == 0

    run(main)


@pytest.mark.parametrize("how", ["relay", "hand over", "receive"])
def test_an_upstream_that_takes_clients_and_is_silent_is_ejected(
    run: Runs, engine: str, how: str
) -> None:
    movers = int("native_verbs" in muxcore.engine(engine).capabilities)
    heard: list[object] = []

    async def silent(conn: mux.Connection) -> None:
        await conn.discard()

    async def main() -> None:
        async with serving(silent) as mute, serving(echo) as other:
            pool = mux.Pool(
                *(mute.addresses[0], other.addresses[0]),
                eject_after=2,
                first_byte_timeout=0.05,
                clock=lambda: 1.0,
            )

            async def handler(conn: mux.Connection) -> None:
                if how == "relay":
                    heard.append((await conn.relay(pool)).reason)
                elif how == "hand over":
                    conn.hand_over(await pool.connect(), lambda end: heard.append(end.reason))
                else:
                    async with await pool.connect() as upstream:
                        await upstream.send(await conn.receive())
                        try:
                            await conn.send(await upstream.receive())
                        except muxcore.FirstByteTimeout:
                            heard.append("first byte")
                            conn.abort()

            async with serving(handler, movers=movers) as server:
                for turn in range(8):
                    async with await dialled(server) as client:
                        await client.send(b"?")
                        try:
                            answer = await client.receive()
                        except OSError:
                            answer = b""
                        assert answer == (b"" if turn in (0, 2) else b"?")
                assert pool.stats()[mute.addresses[0]].state == "ejected"
                assert pool.stats()[mute.addresses[0]].unanswered == 2
                await server.drain()
            assert heard.count("first byte") == 2
            assert active(pool) == 0

    run(main)


@pytest.mark.parametrize("how", ["relay", "hand over", "receive"])
def test_who_is_with_an_upstream_that_is_failing_is_cut(run: Runs, engine: str, how: str) -> None:
    movers = int("native_verbs" in muxcore.engine(engine).capabilities)
    heard: list[object] = []

    async def main() -> None:
        async with serving(echo) as behind:
            check = muxcore.Check(every=1e6)
            pool = mux.Pool(behind.addresses[0], cut_failing=True, check=check)

            async def handler(conn: mux.Connection) -> None:
                if how == "relay":
                    heard.append((await conn.relay(pool)).reason)
                elif how == "hand over":
                    conn.hand_over(await pool.connect(), lambda end: heard.append(end.reason))
                else:
                    async with await pool.connect() as upstream:
                        try:
                            while True:
                                await upstream.send(await conn.receive())
                                await conn.send(await upstream.receive())
                        except muxcore.PairCut as exc:
                            heard.append(exc.strerror)
                            conn.abort()

            async with serving(handler, movers=movers) as server:
                async with await dialled(server) as client:
                    for _ in range(2):
                        await client.send(b"?")
                        assert await client.receive() == b"?"
                    pool.fails(pool.upstreams[0], "it is late")
                    if how == "receive":
                        with contextlib.suppress(OSError):
                            await client.send(b"?")
                    with contextlib.suppress(OSError):
                        assert await client.receive() == b""
                await server.drain()
            assert heard == ["cut: its upstream is failing"]
            assert active(pool) == 0

    run(main)


def test_an_end_says_who_ended_a_pair_that_ends_with_its_first_side(run: Runs) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        limits = muxcore.Limits(half_close_timeout=0)

        async def once(conn: mux.Connection) -> None:
            if await conn.receive() != b"close":
                await conn.receive()

        async with serving(once) as behind:

            async def handler(conn: mux.Connection) -> None:
                ends.append(await conn.relay(behind.addresses[0]))

            async with serving(handler, limits=limits) as server:
                for word in (b"close", b"wait"):
                    async with await dialled(server) as client:
                        await client.send(word)
                        if word == b"wait":
                            await client.send_eof()
                        assert await client.receive() == b""
                await server.drain()
            assert [end.ended_by for end in ends] == ["upstream", "client"]

    run(main)
