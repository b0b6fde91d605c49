"""Movers: joined pairs are moved beside the loop, which hears of nothing but their ends."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.aio.home import here
from muxcore.testing.peer import DEADLINE, Peer, pattern

from .conftest import Runs, dialled, serving
from .test_connection import echo


@pytest.fixture(autouse=True)
def _native(engine: str) -> None:
    if "native_verbs" not in muxcore.engine(engine).capabilities:
        pytest.skip("it has no movers")


def movers() -> int:
    return sum(thread.name == "muxcore-mover" for thread in threading.enumerate())


@asynccontextmanager
async def fronted(
    ends: list[mux.End] | None = None, **options: Any
) -> AsyncIterator[tuple[mux.Server, socket.socket]]:
    """Serve a relay; yield it, and the listener that it relays to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()[1]

        async def front(conn: mux.Connection) -> None:
            end = await conn.relay(where)
            if ends is not None:
                ends.append(end)

        async with serving(front, **options) as server:
            yield server, listener


async def joined(server: mux.Server, listener: socket.socket) -> tuple[Peer, Peer]:
    """Return both far ends of a pair that is joined, and has left the loop."""
    loop = asyncio.get_running_loop()
    client = Peer(server.addresses[0])
    listener.setblocking(False)
    far, _ = await loop.sock_accept(listener)
    upstream = Peer(far)
    far.settimeout(DEADLINE)
    client.send(b"x")
    await loop.run_in_executor(None, upstream.read, 1)
    await has_left(server)
    return client, upstream


async def has_left(server: mux.Server) -> None:
    """Wait until every pair has left for a mover, unless there is none."""
    wanted = server.stats().open + server.stats().outgoing
    while movers() and sum(each.counted.open for each in server._engine._movers) < wanted:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("count", [1, 3])
def test_the_bytes_of_a_pair_move_while_the_loop_stands_still(run: Runs, count: int) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        async with fronted(ends, movers=count) as (server, listener):
            pairs = [await joined(server, listener) for _ in range(4)]
            assert movers() == count
            for client, upstream in pairs:  # nothing here gives way to the loop
                client.send(pattern(100_000))
                assert upstream.read(100_000) == pattern(100_000)
                upstream.send(b"answer")
                assert client.read(6) == b"answer"
            known = server.connections()
            assert [(each.bytes_in, each.bytes_out) for each in known] == [(100_001, 6)] * 4
            assert (server.stats().open, server.stats().outgoing) == (4, 4)
            for client, upstream in pairs:
                client.close()
                upstream.close()
            while len(ends) < 4:
                await asyncio.sleep(0.001)
            assert server.stats().open == 0
        assert {(end.bytes_up, end.bytes_down, end.reason) for end in ends} == {
            (100_001, 6, "closed")
        }

    run(main)
    assert movers() == 0


def test_a_pair_that_leaves_while_both_of_its_ends_wait_ends_in_order(run: Runs) -> None:
    """Our FIN is sent twice then, and the kernel says ENOTCONN to the second: nobody is reset."""
    ends: list[mux.End] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with fronted(ends) as (server, listener):
            client = Peer(server.addresses[0])
            listener.setblocking(False)
            far, _ = await loop.sock_accept(listener)
            upstream = Peer(far)
            far.settimeout(DEADLINE)
            client.send(b"request")
            client.shutdown_write()
            await loop.run_in_executor(None, upstream.read, 7)
            await loop.run_in_executor(None, upstream.read_eof)
            upstream.send(b"answer")
            upstream.shutdown_write()
            due = (
                time.monotonic() + 0.05
            )  # MUX_STAY of csrc/moved.h is over: the next turn moves it
            while time.monotonic() < due:
                pass
            await loop.run_in_executor(None, client.read, 6)
            await loop.run_in_executor(None, client.read_eof)
            while not ends:
                await asyncio.sleep(0.001)
            client.close()
            upstream.close()
        assert [(end.reason, end.bytes_up, end.bytes_down) for end in ends] == [("closed", 7, 6)]

    run(main)


def test_without_movers_the_loops_thread_moves_them(run: Runs) -> None:
    async def main() -> None:
        async with fronted(movers=0) as (server, listener):
            client, upstream = await joined(server, listener)
            assert movers() == 0
            client.close()
            upstream.close()

    run(main)


def test_a_cap_counts_those_that_a_mover_has(run: Runs) -> None:
    async def main() -> None:
        limits = muxcore.Limits(connections=1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = listener.getsockname()[1]

            async def front(conn: mux.Connection) -> None:
                await conn.relay(where)

            async with serving(front, limits=limits) as server:
                client, upstream = await joined(server, listener)
                waiting = Peer(server.addresses[0])
                for _ in range(20):
                    await asyncio.sleep(0)
                assert server.stats().total == 1
                client.close()
                upstream.close()
                while server.stats().total < 2:
                    await asyncio.sleep(0.001)
                waiting.close()

    run(main)


def test_a_server_that_ends_ends_what_its_movers_have(run: Runs) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        async with fronted(ends) as (server, listener):
            pairs = [await joined(server, listener) for _ in range(3)]
            before = time.monotonic()
            assert not await server.drain(0)
            assert time.monotonic() - before < DEADLINE
        for pair in pairs:
            for peer in pair:
                peer.close()

    run(main)
    assert movers() == 0


@pytest.mark.parametrize("count", [-1, 65])
def test_a_number_of_movers_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="movers must be 0 to 64"):
        mux.serve(echo, 0, movers=count)


def test_an_engine_without_native_verbs_has_no_movers() -> None:
    with pytest.raises(muxcore.CapabilityMissing, match="native_verbs"):
        mux.serve(echo, 0, engine="pure-epoll", movers=1)


def test_a_loop_that_is_closed_without_an_end_leaves_no_mover() -> None:
    """Not ``asyncio.run``: nobody ends what the loop has begun."""
    loop = asyncio.new_event_loop()

    async def pair() -> None:
        conn, client = mux.pair()
        other, far = mux.pair()
        conn.hand_over(other)
        await client.send(b"x")
        assert await far.receive() == b"x"
        assert movers() == 1
        while not here()._movers[0].counted.open:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        client.abort()
        far.abort()

    loop.run_until_complete(pair())
    loop.close()
    del loop
    gc.collect()
    assert movers() == 0


def test_a_fork_leaves_the_mover_to_its_parent(run: Runs) -> None:
    async def main() -> None:
        async with fronted() as (server, listener):
            client, upstream = await joined(server, listener)
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            client.send(b"still")
            assert upstream.read(5) == b"still"
            client.close()
            upstream.read_eof()
            upstream.close()

    run(main)


def test_a_client_is_dialled_as_before(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:

            async def front(conn: mux.Connection) -> None:
                await conn.relay(behind.addresses[0])

            async with serving(front) as server, await dialled(server) as client:
                for size in (1, 1000, 300_000):
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(client.send(pattern(size)))
                        assert await client.receive_exactly(size) == pattern(size)

    run(main)


@pytest.mark.parametrize("count", [0, 1])
def test_pairs_go_on_in_a_drain_and_those_that_do_not_finish_are_stopped(
    run: Runs, count: int
) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limits = muxcore.Limits(drain_timeout=600)
        async with fronted(ends, movers=count, limits=limits) as (server, listener):
            pairs = [await joined(server, listener) for _ in range(3)]
            draining = asyncio.create_task(server.drain())
            while not server._engine.retiring:
                await asyncio.sleep(0)
            for client, upstream in pairs:
                client.send(b"still here")
                await loop.run_in_executor(None, upstream.read, 10)
            for side in pairs[0]:
                side.close()
            while not ends:
                await asyncio.sleep(0.001)
            assert not draining.done()
            server._engine.call_soon_threadsafe(server._engine.stop_clients, 1)
            while len(ends) < 2:
                await asyncio.sleep(0.001)
            server._engine.call_soon_threadsafe(server._engine.stop_clients, 9)
            assert not await draining
            for side in (*pairs[1], *pairs[2]):
                side.read_end()
                side.close()
        told = [(end.reason, end.ended_by) for end in ends]
        assert told[0][0] == "closed"
        assert told[1:] == [("stopped", "server")] * 2

    run(main)


@pytest.mark.parametrize("count", [0, 1])
def test_an_idle_pair_is_ended_in_a_drain_where_that_is_asked_for(run: Runs, count: int) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        limits = muxcore.Limits(drain_timeout=600, drain_idle=0.02)
        async with fronted(ends, movers=count, limits=limits) as (server, listener):
            pairs = [await joined(server, listener) for _ in range(2)]
            assert await server.drain()
            for side in (*pairs[0], *pairs[1]):
                side.read_end()
                side.close()
        assert [end.reason for end in ends] == ["stopped"] * 2

    run(main)


@pytest.mark.parametrize("count", [0, 1])
def test_a_drain_sees_pairs_of_which_the_program_hears_nothing(run: Runs, count: int) -> None:
    """Neither side has a protocol that would hear of its end: both are C's."""

    class Unheard:
        def connection_made(self, transport: muxcore.Transport) -> None:
            transport.relay(where)

    async def main(limits: muxcore.Limits) -> bool:
        nonlocal where
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = f"127.0.0.1:{listener.getsockname()[1]}"
            async with mux.serve(Unheard, 0, movers=count, limits=limits) as server:
                pairs = [await joined(server, listener) for _ in range(2)]
                finished = await server.drain()
                assert server._engine.stopped == (0 if finished else 2)
                for side in (*pairs[0], *pairs[1]):
                    side.read_end()
                    side.close()
                return finished

    async def both() -> None:
        assert not await main(muxcore.Limits(drain_timeout=0))
        assert not await main(muxcore.Limits(drain_timeout=0, drain_spread=0.1))
        assert await main(muxcore.Limits(drain_timeout=600, drain_idle=0.02))

    where = ""
    run(both)
