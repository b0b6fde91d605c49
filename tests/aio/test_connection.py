"""What a task does with a connection: it receives, sends, closes."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing.peer import pattern

from .conftest import Runs, dialled, serving

RESET = struct.pack("ii", 1, 0)


async def echo(conn: mux.Connection) -> None:
    async for data in conn:
        await conn.send(data)


def test_an_echo_sends_back_what_comes_until_the_end(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server, await dialled(server) as client:
            await client.send(b"hello")
            assert await client.receive_exactly(5) == b"hello"
            await client.send_eof()
            assert await client.receive() == b""
            assert await client.receive() == b""

    run(main)


def test_a_large_stream_is_echoed_whole_while_both_wait_for_room(run: Runs) -> None:
    size = 4 << 20

    async def main() -> None:
        async with serving(echo) as server, await dialled(server) as client:

            async def speak() -> None:
                for at in range(0, size, 100_000):
                    await client.send(pattern(min(100_000, size - at), at))
                await client.send_eof()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(speak())
                got = b"".join([data async for data in client])
            assert got == pattern(size)

    run(main)


def test_receive_gives_at_most_what_is_asked_for_and_loses_nothing(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            await client.send(pattern(1000))
            got = b""
            while len(got) < 1000:
                data = await conn.receive(7)
                assert 1 <= len(data) <= 7
                got += data
            assert got == pattern(1000)
            with pytest.raises(ValueError, match="max=0"):
                await conn.receive(0)

    run(main)


def test_receive_exactly_takes_all_or_nothing(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            await client.send(b"12345")
            assert await conn.receive_exactly(2) == b"12"
            assert await conn.receive_exactly(0) == b""
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await conn.receive_exactly(4)
            await client.send(b"6")
            assert await conn.receive_exactly(4) == b"3456"
            await client.send(b"rest")
            await client.send_eof()
            with pytest.raises(mux.EndOfStream, match="before 5 bytes") as caught:
                await conn.receive_exactly(5)
            assert caught.value.received == 4
            assert await conn.receive() == b"rest"

    run(main)


def test_receive_exactly_may_want_more_than_is_kept(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            client = await mux.connect(server.addresses[0], keep=1000)
            async with client, asyncio.TaskGroup() as tasks:
                tasks.create_task(client.send(pattern(300_000)))
                assert await client.receive_exactly(300_000) == pattern(300_000)

    run(main)


@pytest.mark.parametrize("separator", [b"\n", b"\r\n\r\n"])
def test_receive_until_finds_a_separator_however_it_comes(run: Runs, separator: bytes) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            for byte in b"one" + separator:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            await client.send(b"two" + separator + b"three")
            assert await conn.receive_until(separator) == b"one" + separator
            assert await conn.receive_until(separator, 3 + len(separator)) == b"two" + separator
            with pytest.raises(mux.TooLong, match="within 5 bytes"):
                await conn.receive_until(separator, 5)
            await client.send_eof()
            with pytest.raises(mux.EndOfStream):
                await conn.receive_until(separator)
            assert await conn.receive() == b"three"
            with pytest.raises(ValueError, match="separator"):
                await conn.receive_until(b"")

    run(main)


def test_peek_leaves_the_bytes_where_they_are(run: Runs) -> None:
    seen = []

    def parser(data: bytes) -> str | None:
        seen.append(data)
        if data.startswith(b"!"):
            raise mux.ParseError("not this")
        return "found" if data.endswith(b".") else None

    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            await client.send(b"so")
            looking = asyncio.create_task(conn.peek(parser))
            while not seen:
                await asyncio.sleep(0)
            await client.send(b" far.")
            assert await looking == "found"
            assert seen == [b"so", b"so far."]
            assert await conn.peek(parser) == "found"
            assert await conn.receive() == b"so far."
            await client.send(b"!")
            with pytest.raises(mux.ParseError, match="not this"):
                await conn.peek(parser)
            assert await conn.receive_exactly(1) == b"!"
            await client.send(b"123")
            with pytest.raises(mux.TooLong, match="nothing was found in 3 bytes"):
                await conn.peek(parser, max=3)
            await client.send_eof()
            with pytest.raises(mux.EndOfStream):
                await conn.peek(parser)
            assert await conn.receive() == b"123"

    run(main)


def test_what_nobody_receives_is_kept_up_to_the_cap_and_then_the_peer_waits(run: Runs) -> None:
    waits = asyncio.Event()

    async def idle(conn: mux.Connection) -> None:
        await waits.wait()
        got = await conn.receive_exactly(8 << 20)
        assert got == pattern(8 << 20)
        await conn.send(b"all")

    async def main() -> None:
        waits.clear()
        async with serving(idle, keep=10_000) as server, await dialled(server) as client:
            sending = asyncio.create_task(client.send(pattern(8 << 20)))
            while len(client_of(server)) < 1 or client_of(server)[0].bytes_in < 10_000:
                await asyncio.sleep(0.001)
            for _ in range(100):
                await asyncio.sleep(0)
            assert client_of(server)[0].bytes_in < 10_000 + 65_536 + 1
            assert not sending.done()
            waits.set()
            assert await client.receive() == b"all"
            await sending

    def client_of(server: mux.Server) -> tuple[mux.Client, ...]:
        return server.connections()

    run(main)


def test_two_tasks_may_not_receive_at_once(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            first = asyncio.create_task(conn.receive())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task receives"):
                await conn.receive()
            await client.send(b"x")
            assert await first == b"x"

    run(main)


def test_many_tasks_may_send_and_each_send_stays_in_one_piece(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            async with asyncio.TaskGroup() as tasks:
                for number in range(20):
                    tasks.create_task(conn.send(bytes([number]) * 50_000))
                got = await client.receive_exactly(20 * 50_000)
            pieces = {got[at : at + 50_000] for at in range(0, len(got), 50_000)}
            assert pieces == {bytes([number]) * 50_000 for number in range(20)}

    run(main)


def test_a_cancelled_receive_loses_no_byte(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            got = b""
            for number in range(50):
                receiving = asyncio.create_task(conn.receive())
                await asyncio.sleep(0)
                await client.send(bytes([number]))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    got += await receiving
                except asyncio.CancelledError:
                    pass
            while len(got) < 50:
                got += await conn.receive()
            assert got == bytes(range(50))

    run(main)


def test_a_reset_is_an_error_after_what_came_before_it(run: Runs) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = await mux.connect(listener.getsockname()[1])
            peer, _ = listener.accept()
        peer.sendall(b"last words")
        await client.peek(lambda data: data == b"last words" or None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        with pytest.raises(ConnectionResetError):
            await client.peek(lambda data: None)
        assert await client.receive() == b"last words"
        for call in (client.receive(), client.receive(), client.send(b"x"), client.send_eof()):
            with pytest.raises(ConnectionResetError):
                await call
        await client.aclose()

    run(main)


def test_what_is_closed_refuses_by_name(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        await conn.aclose()
        await conn.aclose()
        for call in (
            conn.receive(),
            conn.send(b"x"),
            conn.send_eof(),
            conn.peek(bytes),
            conn.echo(),
        ):
            with pytest.raises(mux.ConnectionClosed, match=r"\(\) of a connection"):
                await call
        assert await client.receive() == b""
        client.abort()
        client.abort()
        with pytest.raises(mux.ConnectionClosed):
            await client.receive()

    run(main)


def test_a_close_wakes_who_waits(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        receiving = asyncio.create_task(conn.receive())
        await asyncio.sleep(0)
        await conn.aclose()
        with pytest.raises(mux.ConnectionClosed):
            await receiving
        await client.aclose()

    run(main)


def test_a_send_waits_until_the_peer_takes_it_and_a_cancel_takes_nothing_back(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            data = pattern(3 << 20)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await conn.send(data)
            assert await client.receive_exactly(len(data)) == data

    run(main)


def test_what_cannot_be_sent_is_refused_by_name(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        async with conn, client:
            with pytest.raises(TypeError, match="bytes-like"):
                await conn.send("text")  # type: ignore[arg-type]
            await conn.send_eof()
            with pytest.raises(RuntimeError, match="after write_eof"):
                await conn.send(b"x")

    run(main)


def test_a_close_sends_what_is_queued_and_a_cancelled_close_aborts(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        data = pattern(3 << 20)
        sending = asyncio.create_task(conn.send(data))
        await asyncio.sleep(0)
        closing = asyncio.create_task(conn.aclose())
        assert await client.receive_exactly(len(data)) == data
        assert await client.receive() == b""
        await closing
        await sending
        await client.aclose()

        conn, client = mux.pair()
        sending = asyncio.create_task(conn.send(data))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await conn.aclose()
        with pytest.raises((mux.ConnectionClosed, OSError)):
            await sending
        await client.aclose()

    run(main)


def test_a_connection_knows_both_addresses(run: Runs) -> None:
    found: list[muxcore.Address] = []

    async def tell(conn: mux.Connection) -> None:
        found.extend((conn.peer, conn.local))

    async def main() -> None:
        async with serving(tell) as server, await dialled(server) as client:
            await client.receive()
            assert str(client.peer) == server.addresses[0]
            assert found == [client.local, client.peer]
            assert client.extra("engine") == server.engine
            assert client.extra("nothing", 7) == 7
        conn, client = mux.pair("198.51.100.7:4000")
        assert str(conn.peer) == "198.51.100.7:4000"
        assert client.peer == muxcore.Address()
        conn.abort()
        client.abort()

    run(main)


def test_one_that_nobody_holds_is_aborted_with_a_warning(run: Runs) -> None:
    async def main() -> None:
        conn, client = mux.pair()
        with pytest.warns(ResourceWarning, match="was never closed"):
            del client
        assert await conn.receive() == b""
        conn.abort()
        async with serving(echo) as behind:
            pool = mux.Pool(behind.addresses[0])
            upstream = await pool.connect()
            with pytest.warns(ResourceWarning, match=behind.addresses[0]):
                del upstream
            while pool.stats()[behind.addresses[0]].active:
                await asyncio.sleep(0)

    run(main)


def test_connecting_fails_with_the_reason(run: Runs) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            where = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError, match="cannot connect to"):
            await mux.connect(where)
        with pytest.raises(muxcore.AddressError):
            await mux.connect(":80")
        with pytest.raises(ValueError, match="timeout"):
            await mux.connect(where, timeout=-1)

    run(main)


def test_without_a_loop_there_is_nowhere_to_connect_from() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        mux.pair()
