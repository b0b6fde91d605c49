"""A cancel, at whatever point it comes, leaves nothing behind: no connection, no count, no task.

Each life is a client and its handler, which does one of everything; one of the two is cancelled
after so many turns of the loop. What is left is asked of the engines, of the pool and the kernel.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import muxcore.aio as mux
from muxcore.native import core
from muxcore.testing.peer import DEADLINE

from .conftest import Runs, dialled, serving
from .test_connection import echo
from .test_pool import active, unused

TURNS = 40  # of the loop: a life takes about as many

LIVES = [
    pytest.param(60, id="60"),
    pytest.param(2_500, id="2500", marks=[pytest.mark.deep, pytest.mark.timeout(600)]),
]


class Lives:
    """A server whose handlers do one of everything, as chance has it."""

    def __init__(self, chance: random.Random, echoes: str) -> None:
        self.chance = chance
        self.pool = mux.Pool(unused(), echoes, unused())
        self.handlers: list[asyncio.Task[Any]] = []

    async def handle(self, conn: mux.Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.append(task)
        how = self.chance.randrange(6)
        async with asyncio.timeout(None):
            assert await conn.peek(lambda data: len(data) >= 5 or None)
        if how == 0:
            await conn.send(await conn.receive())
            return
        if how == 1:
            await conn.echo()
            return
        if how == 2:
            await conn.relay(self.pool)
            return
        upstream = await self.pool.connect(tries=3)
        async with upstream:
            await upstream.send(await conn.receive_exactly(2))
            await conn.send(await upstream.receive_exactly(2))
            if how == 3:
                conn.hand_over(upstream)
            elif how == 4:
                await conn.relay(upstream, idle_timeout=60)
            else:
                await conn.send(await conn.receive())
                await conn.aclose()

    async def client(self, server: mux.Server) -> None:
        client = await dialled(server)
        async with client:
            await client.send(b"hello")
            await client.receive(2)
            if self.chance.random() < 0.5:
                await client.send_eof()
                async for _ in client:
                    pass

    async def live(self, server: mux.Server) -> None:
        """One client comes; somebody is cancelled."""
        self.handlers.clear()
        client = asyncio.create_task(self.client(server))
        victim = self.chance.choice(("client", "handler"))
        for _ in range(self.chance.randrange(TURNS)):
            await asyncio.sleep(0)
        if victim == "client":
            client.cancel()
        elif self.handlers:
            self.handlers[0].cancel()
        await asyncio.wait((client,))
        if not client.cancelled() and (exc := client.exception()):
            assert isinstance(exc, ConnectionError), exc

    async def is_over(self, *servers: mux.Server) -> None:
        """Wait until nobody is there any more; whatever stays would let this wait for ever."""
        while any(s.stats().open or s.stats().outgoing for s in servers) or active(self.pool):
            await asyncio.sleep(0.001)


@asynccontextmanager
async def complaints() -> AsyncIterator[list[str]]:
    """Gather what the loop would log: exceptions that nobody took."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: found.append(str(context)))
    yield found
    loop.set_exception_handler(None)


@pytest.fixture(params=[0, core.STAY], ids=["moved", "stays"])
def stay(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a pair goes to a mover at once, or is over before it would."""
    monkeypatch.setattr(core, "STAY", request.param)


@pytest.mark.parametrize("lives", LIVES)
@pytest.mark.usefixtures("stay")
def test_a_cancel_anywhere_leaves_nothing_behind(run: Runs, lives: int) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)

    async def main() -> None:
        async with complaints() as found, serving(echo) as behind:
            some = Lives(chance, behind.addresses[0])
            async with serving(some.handle) as server:
                for number in range(lives):
                    await some.live(server)
                    if number % 20 == 19:
                        await some.is_over(server, behind)
                await some.is_over(server, behind)
                assert server.connections() == ()
        assert found == []

    try:
        run(main, DEADLINE * lives / 60)
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise
