"""A restart of a program that serves in an event loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing import Peer, eventually
from tests.restarting.service import ended

Start = Callable[..., Any]

_PROGRAM = """
import asyncio, importlib, logging, os
from pathlib import Path

import muxcore.aio as mux

VERSION = Path("version").read_text()


async def handle(conn):
    await conn.send(f"{VERSION}\\n".encode())
    async for data in conn:
        await conn.send(data)


async def main():
    async with mux.serve(handle, "127.0.0.1:0", workers=WORKERS_) as server:
        words = "listening on", *server.addresses, os.getpid()
        # signals are heard from serve_forever() on
        asyncio.get_running_loop().call_soon(lambda: print(*words, flush=True))
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    with asyncio.Runner(loop_factory=importlib.import_module("LOOP").new_event_loop) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize(
    ("loop", "workers"),
    [
        ("asyncio", None),
        pytest.param("uvloop", None, marks=pytest.mark.deep),
        pytest.param("asyncio", 2, marks=pytest.mark.deep),
        pytest.param("uvloop", 2, marks=pytest.mark.deep),
    ],
)
def test_handlers_finish_in_the_old_program_and_begin_in_the_new_one(
    start: Start, tmp_path: Path, loop: str, workers: int | None
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (tmp_path / "version").write_text("one")
    program = _PROGRAM.replace('"LOOP"', f'"{loop}"').replace("WORKERS_", str(workers))
    service = start(program=program)
    first, (where,) = service.pid, service.addresses
    with Peer(where) as before:
        assert before.read_line() == b"one\n"
        (tmp_path / "version").write_text("two")
        second = service.restart()
        service.says(f"process {second} has taken over; draining 1 client")
        # an old worker has yet to hear that it is to take nobody, and may take one more until then
        eventually(lambda: _answer(where) == b"two\n", service.log)
        before.send(b"hello")
        assert before.read(5) == b"hello"
    eventually(lambda: ended(first), service.log)
    broken = tmp_path / "version"
    broken.unlink()
    os.kill(second, signal.SIGUSR2)
    service.says("ended with 1 before it was ready: serving on")
    assert _answer(where) == b"two\n"
    service.end()


def _answer(where: str) -> bytes:
    """Return the version that serves a new client."""
    with Peer(where) as peer:
        return peer.read_line()
