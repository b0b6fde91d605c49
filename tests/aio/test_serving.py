"""A server in the loop: handlers are tasks, and its end is everybody's."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.aio.handling import is_handler
from muxcore.testing.peer import DEADLINE, Peer, pattern

from .conftest import Runs, dialled, serving
from .starting import started
from .test_connection import echo


class Called:
    async def __call__(self, conn: mux.Connection) -> None: ...

    async def method(self, conn: mux.Connection) -> None: ...


class Silent:
    def connection_lost(self, exc: BaseException | None) -> None: ...


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (echo, True),
        (Called(), True),
        (Called().method, True),
        (functools.partial(echo), True),
        (lambda conn: echo(conn), True),
        (muxcore.Echo, False),
        (muxcore.Relay("127.0.0.1:1"), False),
        (Silent, False),
        (lambda: Silent(), False),
        (functools.partial(Silent), False),
        (7, False),
    ],
)
def test_a_handler_is_told_from_a_service_by_what_it_is_called_with(
    what: Any, expected: bool
) -> None:
    assert is_handler(what) == expected


def test_a_service_is_served_as_by_any_server(run: Runs) -> None:
    class Upper:
        transport: muxcore.Transport

        def connection_made(self, transport: muxcore.Transport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async def main() -> None:
        async with serving(Upper) as server, await dialled(server) as client:
            await client.send(b"hello")
            assert await client.receive_exactly(5) == b"HELLO"
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0)
            assert not server.ready
            await client.send(b"again")  # who is here may finish
            assert await client.receive_exactly(5) == b"AGAIN"
            await client.aclose()
            assert await draining

    run(main)


def test_what_cannot_be_served_is_refused_before_it_listens(engine: str) -> None:
    with pytest.raises(TypeError, match="at least one address"):
        mux.serve(echo)
    with pytest.raises(muxcore.AddressError):
        mux.serve(echo, ":80")
    with pytest.raises(muxcore.ServiceError):
        mux.serve(7, 0)  # type: ignore[arg-type]
    with pytest.raises(muxcore.CapabilityMissing, match="guest"):
        mux.serve(echo, 0, engine="pure-select")
    with pytest.raises(muxcore.CapabilityMissing, match="guest"):
        mux.serve(muxcore.Echo, 0, engine="pure-select")
    with pytest.raises(muxcore.UnknownEngine):
        mux.serve(echo, 0, engine="steam")


def test_an_address_that_is_taken_is_an_error_and_nothing_stays_open(run: Runs) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = mux.serve(echo, 0, f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(muxcore.BindError, match="another socket listens"):
                await server.__aenter__()

    run(main)


def test_it_is_used_in_its_order(run: Runs) -> None:
    async def main() -> None:
        server = mux.serve(echo, "127.0.0.1:0")
        for call in (server.drain(), server.serve_forever()):
            with pytest.raises(RuntimeError, match="async with"):
                await call
        async with server:
            assert server.addresses[0].startswith("127.0.0.1:")
            with pytest.raises(RuntimeError, match="make a new one"):
                await server.__aenter__()

    run(main)


def test_a_return_closes_the_connection_after_what_was_sent(run: Runs) -> None:
    async def big(conn: mux.Connection) -> None:
        sending = conn.send(pattern(2 << 20))
        try:
            async with asyncio.timeout(0):
                await sending
        except TimeoutError:
            pass  # it is queued

    async def main() -> None:
        async with serving(big) as server, await dialled(server) as client:
            assert await client.receive_exactly(2 << 20) == pattern(2 << 20)
            assert await client.receive() == b""

    run(main)


def test_an_exception_closes_the_connection_with_a_log_that_names_the_peer(
    run: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(conn: mux.Connection) -> None:
        await conn.send(b"last")
        raise LookupError("no such tenant")

    async def strict(conn: mux.Connection) -> None:
        await conn.peek(mux.tls_client_hello)

    async def main() -> None:
        async with serving(broken) as server, await dialled(server) as client:
            assert await client.receive() == b"last"
            assert await client.receive() == b""
            (record,) = caplog.records
            assert record.levelno == logging.ERROR
            assert record.exc_info
            assert f"{client.local}" in record.message
            assert "no such tenant" in record.message
        caplog.clear()
        async with serving(strict) as server, await dialled(server) as client:
            await client.send(b"GET / HTTP/1.1\r\n")
            assert await client.receive() == b""
            (record,) = caplog.records
            assert (record.levelno, record.exc_info) == (logging.WARNING, None)

    with caplog.at_level(logging.WARNING, "muxcore"):
        run(main)


def test_a_handler_that_is_none_is_named_in_the_log(
    run: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(conn: mux.Connection) -> None: ...

    async def main() -> None:
        async with serving(plain) as server:
            client = await dialled(server)
            while "which is no coroutine" not in caplog.text:
                await asyncio.sleep(0)
            client.abort()

    run(main)


def test_a_cancelled_handler_aborts_its_connection_and_no_other(run: Runs) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> None:
        async def kept(conn: mux.Connection) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            await echo(conn)

        async with serving(kept) as server:
            first, second = await dialled(server), await dialled(server)
            for client in (first, second):
                await client.send(b"x")
                assert await client.receive() == b"x"
            tasks[0].cancel()
            assert await first.receive() == b""
            await second.send(b"y")
            assert await second.receive() == b"y"
            await first.aclose()
            await second.aclose()

    run(main)


_who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def test_each_handler_begins_in_the_context_of_the_server(run: Runs) -> None:
    """However the turn came about that accepted its client: by another handler's send, say."""
    seen: list[str] = []

    async def main() -> None:
        _who.set("main")

        async def handler(conn: mux.Connection) -> None:
            seen.append(_who.get())
            _who.set(f"handler {len(seen)}")
            async for data in conn:
                await conn.send(data)
                assert _who.get().startswith("handler ")

        async with serving(handler) as server:
            _who.set("later")
            clients: list[mux.Connection] = []
            for _ in range(10):
                clients.append(await dialled(server))
                for client in clients:
                    await client.send(b"x")
                    assert await client.receive() == b"x"
            for client in clients:
                await client.aclose()
        assert seen == ["main"] * 10

    run(main)


def test_leaving_the_block_cancels_the_handlers_and_waits_for_them(run: Runs) -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def slow(conn: mux.Connection) -> None:
        begun.append("")
        try:
            await conn.receive()
        finally:
            await asyncio.sleep(0.01)
            ended.append("in order")

    async def main() -> None:
        async with serving(slow) as server:
            clients = [await dialled(server) for _ in range(3)]
            while len(begun) < 3:
                await asyncio.sleep(0)
        assert ended == ["in order"] * 3
        for client in clients:
            assert await client.receive() == b""
            await client.aclose()

    run(main)


def test_a_drain_lets_clients_finish_and_says_whether_all_did(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            client = await dialled(server)
            await client.send(b"x")
            assert await client.receive() == b"x"
            draining = asyncio.create_task(server.drain(DEADLINE))
            await asyncio.sleep(0.01)
            with pytest.raises(ConnectionRefusedError):
                await dialled(server)
            await client.send(b"y")
            assert await client.receive() == b"y"
            await client.aclose()
            assert await draining
        async with serving(echo) as server:
            client = await dialled(server)
            await client.send(b"x")
            assert await client.receive() == b"x"
            assert not await server.drain(0)
            assert await client.receive() == b""
            await client.aclose()

    run(main)


def test_a_cancel_of_serve_forever_drains_first(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo, limits=muxcore.Limits(drain_timeout=60)) as server:
            client = await dialled(server)
            serves = asyncio.create_task(server.serve_forever())
            await client.send(b"x")
            assert await client.receive() == b"x"
            serves.cancel()
            await asyncio.sleep(0.01)
            await client.send(b"y")
            assert await client.receive() == b"y"
            await client.aclose()
            with pytest.raises(asyncio.CancelledError):
                await serves

            # a second cancel does not wait for clients
        async with serving(echo, limits=muxcore.Limits(drain_timeout=60)) as server:
            client = await dialled(server)
            serves = asyncio.create_task(server.serve_forever())
            await client.send(b"x")
            assert await client.receive() == b"x"
            serves.cancel()
            await asyncio.sleep(0.01)
            serves.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serves
            assert await client.receive() == b""
            await client.aclose()

    run(main)


def test_connections_tells_who_is_there(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            assert server.connections() == ()
            client = await dialled(server)
            await client.send(b"hello")
            assert await client.receive() == b"hello"
            (known,) = server.connections()
            assert known.peer == str(client.local)
            assert (known.upstream, known.bytes_in, known.bytes_out) == ("", 5, 5)
            assert 0 <= known.age <= DEADLINE
            assert server.stats().open == 1
            await client.aclose()

    run(main)


def test_two_servers_of_one_loop_are_each_at_home(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as behind:

            async def front(conn: mux.Connection) -> None:
                async def connected() -> mux.Connection:
                    return await mux.connect(behind.addresses[0])

                await conn.relay(await asyncio.create_task(connected()))

            async with serving(front) as one, serving(front) as two:
                for server in (one, two):
                    async with await dialled(server) as client:
                        await client.send(b"hello")
                        assert await client.receive_exactly(5) == b"hello"

    run(main)


_LOOPS = ["asyncio.run", pytest.param("__import__('uvloop').run", marks=pytest.mark.deep)]
PROGRAM = """
import asyncio, sys
import muxcore, muxcore.aio as mux

async def handle(conn):
    async for data in conn:
        await conn.send(data)

async def main():
    limits = muxcore.Limits(drain_timeout=60)
    one, two = (mux.serve(handle, 0, limits=limits) for _ in range(2))
    async with one, two:
        print(one.addresses[0], two.addresses[0], flush=True)
        await asyncio.gather(one.serve_forever(), two.serve_forever())
    print("drained", flush=True)

{run}(main())
"""


@pytest.mark.parametrize("loop", _LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_drains_every_server_and_a_second_signal_waits_for_nobody(
    loop: str, number: signal.Signals, engine: str
) -> None:
    if "uvloop" in loop:
        pytest.importorskip("uvloop")
    for signals in (1, 2):
        with started(PROGRAM.replace("{run}", loop)) as program:
            assert program.stdout is not None
            one, two = program.stdout.readline().split()
            with Peer(one) as first, Peer(two) as second:
                for peer in (first, second):
                    peer.send(b"x")
                    assert peer.read(1) == b"x"
                program.send_signal(signal.SIGTERM)
                _refused(one)
                first.send(b"y")
                assert first.read(1) == b"y"
                if signals == 1:
                    first.close()
                    second.close()
                else:
                    program.send_signal(number)
                assert program.stdout.read() == "drained\n"
                assert program.wait(DEADLINE) == 0


@pytest.mark.parametrize("loop", _LOOPS)
def test_sigint_ends_every_server_and_waits_for_nobody(loop: str, engine: str) -> None:
    if "uvloop" in loop:
        pytest.importorskip("uvloop")
    with started(PROGRAM.replace("{run}", loop)) as program:
        assert program.stdout is not None
        one, two = program.stdout.readline().split()
        with Peer(one) as first, Peer(two) as second:
            for peer in (first, second):
                peer.send(b"x")
                assert peer.read(1) == b"x"
            program.send_signal(signal.SIGINT)
            for peer in (first, second):
                peer.read_end()
        assert program.stdout.read() == "drained\n"
        assert program.wait(DEADLINE) == 0


def test_a_handler_sees_that_its_server_drains_and_may_finish(run: Runs) -> None:
    async def until_told(conn: mux.Connection) -> None:
        assert not conn.draining
        async for data in conn:
            await conn.send(data)
            if conn.draining:
                await conn.send(b"goodbye")
                return

    async def main() -> None:
        async with serving(until_told, limits=muxcore.Limits(drain_timeout=600)) as server:
            client = await dialled(server)
            await client.send(b"x")
            assert await client.receive() == b"x"
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0)
            while server._engine.draining is False:
                await asyncio.sleep(0)
            await client.send(b"y")
            assert await client.receive_exactly(8) == b"ygoodbye"
            assert await client.receive() == b""
            await client.aclose()
            assert await draining

    run(main)


def test_a_handler_that_goes_on_without_its_client_is_waited_for_and_may_connect(
    run: Runs,
) -> None:
    done: list[bytes] = []

    async def main() -> None:
        async with serving(echo) as behind:
            gone = asyncio.Event()
            go_on = asyncio.Event()

            async def late(conn: mux.Connection) -> None:
                await conn.receive()
                await conn.aclose()
                gone.set()
                await go_on.wait()
                async with await mux.connect(behind.addresses[0]) as other:
                    await other.send(b"last words")
                    done.append(await other.receive_exactly(10))

            async with serving(late, limits=muxcore.Limits(drain_timeout=600)) as server:
                client = await dialled(server)
                await client.send(b"x")
                draining = asyncio.create_task(server.drain())
                await gone.wait()
                await client.aclose()
                while server.stats().open:
                    await asyncio.sleep(0)
                assert not draining.done()
                go_on.set()
                assert await draining
        assert done == [b"last words"]

    run(main)


def test_who_does_not_finish_is_stopped_and_an_idle_one_where_that_is_asked_for(
    run: Runs,
) -> None:
    raised: list[BaseException] = []

    async def waits(conn: mux.Connection) -> None:
        try:
            await conn.receive()
        except OSError as exc:
            raised.append(exc)

    async def main(limits: muxcore.Limits) -> bool:
        async with serving(waits, limits=limits) as server:
            client = await dialled(server)
            while not server.connections():
                await asyncio.sleep(0)
            all_finished = await server.drain()
            assert await client.receive() == b""
            await client.aclose()
            return all_finished

    async def both() -> None:
        assert not await main(muxcore.Limits(drain_timeout=0))
        assert await main(muxcore.Limits(drain_timeout=600, drain_idle=0.02))

    run(both)
    assert [type(exc) for exc in raised] == [muxcore.Stopped] * 2


def test_a_task_at_work_is_not_idle(run: Runs) -> None:
    async def main() -> None:
        finish = asyncio.Event()

        async def works(conn: mux.Connection) -> None:
            if await conn.receive() == b"work":
                await finish.wait()
                await conn.send(b"done")

        async with serving(
            works, limits=muxcore.Limits(drain_timeout=600, drain_idle=0.02)
        ) as server:
            busy, idle = await dialled(server), await dialled(server)
            await busy.send(b"work")
            while len(server.connections()) < 2 or server.stats().bytes_in < 4:
                await asyncio.sleep(0)
            draining = asyncio.create_task(server.drain())
            assert await idle.receive() == b""
            finish.set()
            assert await busy.receive() == b"done"
            for client in (busy, idle):
                await client.aclose()
            assert await draining

    run(main)


def test_a_pair_that_a_stop_cuts_is_told_to_be_stopped(run: Runs) -> None:
    async def main() -> None:
        ends: list[mux.End] = []
        async with serving(echo) as behind:

            async def relayed(conn: mux.Connection) -> None:
                conn.hand_over(await mux.connect(behind.addresses[0]), ends.append)

            async with serving(relayed) as server:
                client = await dialled(server)
                await client.send(b"x")
                assert await client.receive() == b"x"
            await client.aclose()
        assert [(end.reason, end.ended_by) for end in ends] == [("stopped", "server")]

    run(main)


def _refused(where: str) -> None:
    """Wait until nobody listens there."""
    while True:
        try:
            Peer(where).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it was in the queue of a listener that was closed


def test_the_engine_of_a_loop_ends_with_it(run: Runs) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            client = await dialled(server)
            await client.send(b"x")
            assert await client.receive() == b"x"
            client.abort()
            # one more is left open: the loop's end closes it
            kept.append(await dialled(server))

    kept: list[mux.Connection] = []
    run(main)
    with pytest.raises(ConnectionError):  # closed here; or reset before, where it was not accepted
        asyncio.run(kept[0].receive())


def test_importing_it_needs_no_extra() -> None:
    program = (
        "import sys, muxcore.aio; print(sorted({'anyio', 'trio', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
