"""Verbs that are awaited: they tell how it ended, and leave nothing behind."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing.peer import pattern

from .conftest import Runs, dialled, serving
from .test_connection import RESET, echo


class Front:
    """A handler that relays to an echo behind it, and keeps how each ended."""

    def __init__(self, behind: mux.Server, **options: Any) -> None:
        self.behind = behind
        self.options = options
        self.ends: asyncio.Queue[mux.End] = asyncio.Queue()

    async def __call__(self, conn: mux.Connection) -> None:
        upstream = await mux.connect(self.behind.addresses[0])
        self.ends.put_nowait(await conn.relay(upstream, **self.options))


@asynccontextmanager
async def relayed(**options: Any) -> AsyncIterator[tuple[mux.Server, Front, mux.Server]]:
    """Serve a relay to an echo while the block runs."""
    async with serving(echo) as behind:
        front = Front(behind, **options)
        async with serving(front) as server:
            yield server, front, behind


def test_relay_tells_who_ended_it_and_how_much_went_each_way(run: Runs) -> None:
    async def main() -> None:
        async with relayed() as (server, front, behind), await dialled(server) as client:
            await client.send(pattern(100_000))
            assert await client.receive_exactly(100_000) == pattern(100_000)
            await client.send_eof()
            assert await client.receive() == b""
            end = await front.ends.get()
            assert end.client == str(client.local)
            assert end.upstream == behind.addresses[0]
            assert (end.bytes_up, end.bytes_down) == (100_000, 100_000)
            assert (end.reason, end.ended_by) == ("closed", "client")
            assert end.seconds > 0

    run(main)


def test_what_was_received_and_not_taken_goes_first_in_either_direction(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        upstream, far = mux.pair()
        await client.send(b"hello ")
        await far.send(b"banner ")
        assert await conn.peek(lambda data: len(data) == 6 or None)
        assert await upstream.peek(lambda data: len(data) == 7 or None)
        relaying = asyncio.create_task(conn.relay(upstream))
        await client.send(b"there")
        await far.send(b"and more")
        assert await far.receive_exactly(11) == b"hello there"
        assert await client.receive_exactly(15) == b"banner and more"
        await far.send_eof()
        assert await client.receive() == b""
        await client.aclose()
        end = await relaying
        assert (end.reason, end.ended_by) == ("closed", "upstream")
        await far.aclose()

    run(main)


def test_an_eof_that_was_heard_before_is_passed_on(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        upstream, far = mux.pair()
        await client.send(b"all")
        await client.send_eof()
        with pytest.raises(mux.EndOfStream):
            await conn.receive_exactly(4)
        relaying = asyncio.create_task(conn.relay(upstream))
        assert await far.receive_exactly(3) == b"all"
        assert await far.receive() == b""
        await far.send(b"answer")
        await far.aclose()
        assert await client.receive_exactly(6) == b"answer"
        end = await relaying
        assert (end.bytes_up, end.bytes_down, end.ended_by) == (3, 6, "client")
        await client.aclose()

    run(main)


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_reset_names_its_side(run: Runs, side: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with serving(echo) as server:
                conn = await mux.connect(listener.getsockname()[1])
                sock, _ = listener.accept()
                other = await dialled(server)
                joined = (conn, other) if side == "client" else (other, conn)
                relaying = asyncio.create_task(joined[0].relay(joined[1]))
                sock.sendall(b"x")
                while not await asyncio.to_thread(sock.recv, 1):
                    pass
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.close()
                end = await relaying
                assert (end.reason, end.ended_by) == (f"reset by {side}", side)

    run(main)


def test_a_pair_in_which_no_byte_moves_is_cut_by_its_own_time_out(run: Runs) -> None:
    async def main() -> None:
        async with (
            relayed(idle_timeout=0.05) as (server, front, _),
            await dialled(server) as client,
        ):
            with pytest.raises(ConnectionResetError):
                await client.receive()
            end = await front.ends.get()
            assert (end.reason, end.ended_by) == ("idle", "server")

    run(main)


def test_a_pair_in_which_bytes_move_is_not_cut(run: Runs) -> None:
    async def main() -> None:
        async with relayed(idle_timeout=60) as (server, front, _), await dialled(server) as client:
            for _ in range(20):
                await client.send(b"x")
                assert await client.receive() == b"x"
            await client.aclose()
            assert (await front.ends.get()).reason == "closed"

    run(main)


def test_hand_over_lets_the_task_end_and_the_pair_go_on(run: Runs) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        async with serving(echo) as behind:
            ended = asyncio.Event()

            def on_end(end: mux.End) -> None:
                ends.append(end)
                ended.set()

            async def front(conn: mux.Connection) -> None:
                conn.hand_over(await mux.connect(behind.addresses[0]), on_end)

            async with serving(front) as server, await dialled(server) as client:
                for _ in range(3):
                    await client.send(b"ping")
                    assert await client.receive_exactly(4) == b"ping"
                (known,) = server.connections()
                assert (known.peer, known.upstream) == (str(client.local), behind.addresses[0])
                assert (known.bytes_in, known.bytes_out) == (12, 12)
                await client.aclose()
                await ended.wait()
                assert ends.pop().bytes_up == 12
                assert server.connections() == ()

    run(main)


def test_relay_connects_first_and_a_failure_is_told_while_the_client_is_there(run: Runs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"

    async def front(conn: mux.Connection) -> None:
        with pytest.raises(ConnectionRefusedError):
            await conn.relay(nobody)
        with pytest.raises(mux.NoUpstream, match=nobody):
            await conn.relay(mux.Pool(nobody))
        await conn.send(b"sorry")

    async def main() -> None:
        async with serving(front) as server, await dialled(server) as client:
            assert await client.receive() == b"sorry"
            assert await client.receive() == b""

    run(main)


def test_relay_takes_an_address_and_a_pool(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0])

            async def front(conn: mux.Connection) -> None:
                await conn.relay(pool if await conn.receive_exactly(1) == b"p" else pool_address)

            pool_address = behind.addresses[0]
            async with serving(front) as server:
                for way in (b"p", b"a"):
                    async with await dialled(server) as client:
                        await client.send(way + b"hello")
                        assert await client.receive_exactly(5) == b"hello"
            assert pool.stats()[pool_address].total == 1
            assert pool.stats()[pool_address].active == 0

    run(main)


@pytest.mark.parametrize("verb", ["relay", "echo", "discard"])
def test_a_cancelled_verb_ends_everything_it_had(run: Runs, verb: str) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        upstream, far = mux.pair()
        call = {"relay": lambda: conn.relay(upstream), "echo": conn.echo, "discard": conn.discard}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await call[verb]()
        assert await client.receive() == b""
        if verb == "relay":
            assert await far.receive() == b""
        for each in (client, upstream, far):
            each.abort()

    run(main)


def test_echo_and_discard_begin_with_what_has_come(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        await client.send(b"early ")
        assert await conn.peek(lambda data: len(data) == 6 or None)
        echoing = asyncio.create_task(conn.echo())
        await client.send(b"late")
        assert await client.receive_exactly(10) == b"early late"
        await client.send_eof()
        assert await client.receive() == b""
        end = await echoing
        assert (end.upstream, end.bytes_up, end.bytes_down) == ("", 10, 10)
        assert (end.reason, end.ended_by) == ("closed", "client")
        await client.aclose()

        conn, client = mux.pair()
        discarding = asyncio.create_task(conn.discard())
        await client.send(bytes(100_000))
        await client.aclose()
        end = await discarding
        assert (end.bytes_up, end.bytes_down, end.ended_by) == (100_000, 0, "client")

    run(main)


def test_a_connection_that_a_verb_has_refuses_everything_else(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        upstream, far = mux.pair()
        conn.hand_over(upstream)
        for each in (conn, upstream):
            for call in (each.receive(), each.send(b"x"), each.send_eof(), each.echo()):
                with pytest.raises(mux.ConnectionClosed, match="the engine moves its bytes"):
                    await call
            await each.aclose()
            each.abort()
        await client.send(b"still")
        assert await far.receive_exactly(5) == b"still"
        await client.aclose()
        await far.aclose()

    run(main)


def test_what_cannot_be_joined_is_refused_and_nothing_has_changed(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        upstream, far = mux.pair()
        with pytest.raises(ValueError, match="the connection itself"):
            await conn.relay(conn)
        with pytest.raises(ValueError, match="above 0"):
            await conn.relay(upstream, idle_timeout=0)
        with pytest.raises(TypeError, match="idle_timeout"):
            await conn.relay(upstream, idle_timeout="soon")  # type: ignore[arg-type]
        receiving = asyncio.create_task(upstream.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task receives"):
            await conn.relay(upstream)
        await far.send(b"x")
        assert await receiving == b"x"
        await upstream.send_eof()
        with pytest.raises(ValueError, match="the upstream has sent EOF"):
            await conn.relay(upstream)
        await upstream.aclose()
        with pytest.raises(mux.ConnectionClosed):
            await conn.relay(upstream)
        await client.send(b"as before")
        assert await conn.receive() == b"as before"
        async with serving(echo) as server:
            refused = []

            async def foreign(other: mux.Connection) -> None:
                try:
                    await other.relay(conn)
                except ValueError as exc:
                    refused.append(str(exc))

            async with serving(foreign) as second, await dialled(second) as dialler:
                assert await dialler.receive() == b""
            assert server.stats().open == 0
        assert "belongs to another server" in refused[0]
        for each in (conn, client, far):
            await each.aclose()

    run(main)


def test_the_end_of_a_server_tells_of_every_pair(run: Runs) -> None:
    ends: list[mux.End] = []

    async def main() -> None:
        async with serving(echo) as behind:

            async def front(conn: mux.Connection) -> None:
                conn.hand_over(await mux.connect(behind.addresses[0]), ends.append)

            async with serving(front) as server:
                clients = [await dialled(server) for _ in range(5)]
                for client in clients:
                    await client.send(b"x")
                    assert await client.receive() == b"x"
            assert [(end.reason, end.ended_by) for end in ends] == [("stopped", "server")] * 5
            for client in clients:
                assert await client.receive() == b""
                await client.aclose()

    run(main)


def test_one_client_can_be_ended_by_name(run: Runs) -> None:
    async def main() -> None:
        async with relayed() as (server, front, _), await dialled(server) as client:
            await client.send(b"x")
            assert await client.receive() == b"x"
            (known,) = server.connections()
            known.close()
            known.close()
            assert await client.receive() == b""
            end = await front.ends.get()
            assert (end.reason, end.ended_by) == ("closed", "server")

    run(main)


def test_a_reset_that_comes_before_the_join_is_an_error_or_an_end(run: Runs) -> None:
    async def main() -> None:
        for _ in range(20):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                conn = await mux.connect(listener.getsockname()[1])
                sock, _ = listener.accept()
            upstream, far = mux.pair()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            try:
                end = await conn.relay(upstream)
                assert end.reason == "reset by client"
            except ConnectionResetError:
                pass  # the upstream is ended, too: nobody else would
            assert await far.receive() == b""
            await far.aclose()
            conn.abort()

    run(main)


def test_verbs_in_callbacks_and_pools_of_muxcore_work_beside(run: Runs) -> None:
    async def main() -> None:
        async with serving(muxcore.Echo) as behind:
            pool = muxcore.Pool(behind.addresses[0])

            async def front(conn: mux.Connection) -> None:
                await conn.relay(pool)

            async with serving(front) as server, await dialled(server) as client:
                await client.send(b"hello")
                assert await client.receive_exactly(5) == b"hello"

    run(main)
