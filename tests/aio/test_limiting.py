"""A task bounds what its connection receives."""

from __future__ import annotations

import time

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing.peer import pattern

from .conftest import Runs, dialled, serving

_RATE, _BURST, _SIZE = 200_000, 4096, 20_480


def test_a_task_limits_its_connection_and_what_it_is_joined_with(run: Runs) -> None:
    async def echo(conn: mux.Connection) -> None:
        async for data in conn:
            await conn.send(data)

    async def main() -> None:
        async with serving(echo) as upstream:

            async def front(conn: mux.Connection) -> None:
                conn.limit(muxcore.Rate(_RATE, _BURST))
                await conn.relay(upstream.addresses[0])

            begun = time.monotonic()
            async with serving(front) as server, await dialled(server) as client:
                await client.send(pattern(_SIZE))
                await client.send_eof()
                assert b"".join([data async for data in client]) == pattern(_SIZE)
            assert _RATE * (time.monotonic() - begun) + _BURST >= _SIZE

    run(main)


def test_a_connection_that_was_closed_takes_no_limits(run: Runs) -> None:
    async def main() -> None:
        conn, other = mux.pair()
        async with conn, other:
            pass
        with pytest.raises(mux.ConnectionClosed):
            conn.limit()

    run(main)
