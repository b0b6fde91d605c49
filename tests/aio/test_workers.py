"""``muxcore.aio.serve(workers=)``: handlers in processes with a loop each."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children
from tests.aio.starting import started
from tests.workers.services import Fails, Pid, echo, relay

Run = Callable[[Coroutine[Any, Any, None]], None]


def who(peer: Peer) -> int:
    return int(peer.read_line())


def talk(where: str) -> int:
    """Be a client; return which worker served it."""
    with Peer(where) as peer:
        pid = who(peer)
        peer.send(b"hello")
        assert peer.read(5) == b"hello"
        return pid


@pytest.mark.parametrize("service", [echo, Pid])
def test_a_handler_or_a_service_is_served_in_workers(service: Any) -> None:
    async def main() -> None:
        before = set(children(os.getpid()))
        async with mux.serve(service, "127.0.0.1:0", workers=2, balance="exact") as server:
            assert (server.workers, server.ready) == (2, True)
            peers = [await asyncio.to_thread(Peer, server.addresses[0]) for _ in range(4)]
            pids = [await asyncio.to_thread(who, peer) for peer in peers]
            assert sorted(map(pids.count, set(pids))) == [2, 2]
            assert server.stats().open == 4
            for peer in peers:
                peer.close()
        assert set(children(os.getpid())) == before

    asyncio.run(main())


def test_bytes_that_movers_move_are_counted() -> None:
    async def main() -> None:
        async with mux.serve(relay, "127.0.0.1:0", workers=1) as server:
            with muxcore.Server(muxcore.Echo, "127.0.0.1:0") as upstream:
                name = upstream.addresses[0].encode() + b"\n"

                def client() -> None:
                    with Peer(server.addresses[0]) as peer:
                        peer.send(name)
                        for _ in range(20):  # a pair stays in its loop for a moment
                            peer.send(bytes(50_000))
                            peer.read(50_000)
                            peer.pause(0.002)

                await asyncio.to_thread(client)
                counted = len(name) + 2 * 20 * 50_000  # of the client, and of its upstream
                eventually(lambda: server.stats().bytes_in == counted, lambda: str(server.stats()))

    asyncio.run(main())


def test_a_worker_that_is_killed_is_replaced() -> None:
    async def main() -> None:
        async with mux.serve(echo, "127.0.0.1:0", workers=1) as server:
            first = await asyncio.to_thread(talk, server.addresses[0])
            os.kill(first, signal.SIGKILL)
            assert await asyncio.to_thread(talk, server.addresses[0]) != first

    asyncio.run(main())


def test_a_drain_lets_handlers_of_workers_finish() -> None:
    async def main() -> None:
        async with mux.serve(echo, "127.0.0.1:0", workers=2) as server:
            peer = await asyncio.to_thread(Peer, server.addresses[0])
            await asyncio.to_thread(who, peer)
            draining = asyncio.ensure_future(server.drain())
            await asyncio.sleep(0)
            assert not server.ready
            peer.send(b"still here")
            assert await asyncio.to_thread(peer.read, 10) == b"still here"
            peer.close()
            assert await draining

    asyncio.run(main())


def test_a_cancel_ends_workers() -> None:
    async def main() -> None:
        before = set(children(os.getpid()))
        async with mux.serve(echo, "127.0.0.1:0", workers=2) as server:
            serving = asyncio.ensure_future(server.serve_forever())
            await asyncio.to_thread(talk, server.addresses[0])
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert set(children(os.getpid())) == before

    asyncio.run(main())


def test_it_does_not_begin_if_no_worker_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTED_PARENT", str(os.getpid()))

    async def main() -> None:
        with pytest.raises(muxcore.WorkerFailed, match="no such disk"):
            async with mux.serve(Fails(), "127.0.0.1:0", workers=1):
                pass

    asyncio.run(main())


_PROGRAM = """
import asyncio
import functools
import muxcore.aio as mux
from tests.workers.services import echo

async def main():
    async with mux.serve(echo, "127.0.0.1:0", workers=2) as server:
        # once it waits, signals are the server's
        tell = functools.partial(print, server.addresses[0], flush=True)
        asyncio.get_running_loop().call_soon(tell)
        await server.serve_forever()

LOOP
"""
_LOOPS = {
    "asyncio": "asyncio.run(main())",
    "uvloop": "import uvloop; asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.deep)])
def test_a_signal_ends_a_program_with_workers(loop: str, number: signal.Signals) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with started(_PROGRAM.replace("LOOP", _LOOPS[loop])) as program:
        assert program.stdout is not None
        where = program.stdout.readline().strip()
        pids = children(program.pid)
        talk(where)
        program.send_signal(number)
        assert program.wait(timeout=60) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
