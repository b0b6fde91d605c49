"""Handlers behind a guard, and routers in the loop: decisions are tasks of it."""

from __future__ import annotations

import asyncio
import threading

import pytest

import muxcore
import muxcore.aio as mux

from .conftest import Runs, dialled, serving


async def ended(client: mux.Connection) -> bool:
    try:
        return await client.receive() == b""
    except OSError:
        return True


async def until_nobody_is_in(guard: muxcore.Guard) -> None:
    while guard.active:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", ["task", "relay", "hand over", "echo"])
def test_whatever_a_handler_does_its_clients_end_is_counted_once(run: Runs, how: str) -> None:
    async def answers(conn: mux.Connection) -> None:
        await conn.send(await conn.receive())

    async def main() -> None:
        async with serving(answers) as upstream:
            where = upstream.addresses[0]

            async def handler(conn: mux.Connection) -> None:
                if how == "task":
                    await answers(conn)
                elif how == "echo":
                    await conn.echo()
                elif how == "relay":
                    await conn.relay(where)
                else:
                    conn.hand_over(await mux.connect(where))

            guard = muxcore.Guard(handler, source_connections=1)
            async with serving(guard) as server:
                for _ in range(3):
                    async with await dialled(server) as client:
                        await client.send(b"hello")
                        assert await client.receive_exactly(5) == b"hello"
                    await until_nobody_is_in(guard)
                assert guard.counts == {"accepted": 3}

    run(main)


def test_who_is_refused_never_comes_to_a_handler(run: Runs) -> None:
    called = []

    async def handler(conn: mux.Connection) -> None:
        called.append(conn)

    async def main() -> None:
        guard = muxcore.Guard(
            muxcore.BehindProxy(handler, trusted=["127.0.0.1"]), deny=["127.0.0.1"]
        )
        async with serving(guard) as server, await dialled(server) as client:
            assert await ended(client)
            assert guard.counts == {"denied": 1}
            guard.change(deny=())  # of what is served here it is a copy
            async with await dialled(server) as other:
                await other.send(b"PROXY UNKNOWN\r\n")
                assert await ended(other)
        assert len(called) == 1

    run(main)


def test_a_decision_is_awaited_in_the_loop_and_cancelled_if_its_client_goes(run: Runs) -> None:
    asked: list[muxcore.First] = []
    threads: list[threading.Thread] = []
    cancelled = asyncio.Event()

    async def decide(first: muxcore.First) -> muxcore.Pool | str | None:
        asked.append(first)
        threads.append(threading.current_thread())
        if first.data.startswith(b"wait"):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        await asyncio.sleep(0)
        return "echo" if first.data.startswith(b"SSH-") else None

    async def echo(conn: mux.Connection) -> None:
        await conn.echo()

    async def main() -> None:
        async with serving(echo) as upstream:
            pools = {"echo": muxcore.Pool(upstream.addresses[0])}
            router = muxcore.Router(decide=decide, pools=pools, decide_timeout=60)
            async with serving(router) as server:
                async with await dialled(server) as client:
                    await client.send(b"SSH-2.0-here\r\n")
                    assert await client.receive_exactly(14) == b"SSH-2.0-here\r\n"
                async with await dialled(server) as client:
                    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert await ended(client)
                client = await dialled(server)
                await client.send(b"wait for it: here are more than sixteen bytes")
                while len(asked) < 3:
                    await asyncio.sleep(0.001)
                await client.send(b"more")
                sock = client.extra("socket")
                sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
                client.abort()
                await cancelled.wait()
                while router.counts["ended"] < 1:
                    await asyncio.sleep(0.001)
            assert router.counts == {"decided": 1, "refused": 1, "ended": 1}
            assert set(threads) == {threading.current_thread()}
            assert asked[0].protocol == "ssh"
            assert asked[1].protocol == "http"

    run(main)
