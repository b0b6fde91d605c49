"""Servers that exist, on a loop of ours and on the loop itself: clients see the same."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import muxcore.aio as mux
from muxcore.testing.peer import DEADLINE, Peer

from ..real.programs import Program
from .conftest import LOOPS

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]  # they need the extra "deep"

OURS = {"asyncio": mux.new_event_loop, "uvloop": mux.new_uvloop}

See = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


def program(name: str) -> See:
    """Return what a program's clients see; without the package that it is of, skip."""
    pytest.importorskip("httpx")
    pytest.importorskip(name)
    module = importlib.import_module(f".programs.{name}_server", __package__)
    found: See = module.seen
    return found


def compared(loop: str, engine: str, see: See, *args: Any) -> None:
    """Run a program on the loop itself, and on ours, and compare what was seen."""

    async def bounded() -> dict[str, Any]:
        async with asyncio.timeout(20 * DEADLINE):
            return await see(*args)

    stock: dict[str, Any] = importlib.import_module(loop).run(bounded())
    with asyncio.Runner(loop_factory=OURS[loop]) as runner:
        ours = runner.run(bounded())
    assert list(ours) == list(stock)
    for name, seen in stock.items():
        assert ours[name] == seen, f"{name} differs: {str(ours[name])[:300]} {str(seen)[:300]}"


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("loop", LOOPS)
def test_uvicorn_serves_as_it_does_on_the_loop_itself(loop: str, http: str, engine: str) -> None:
    compared(loop, engine, program("uvicorn"), http)


@pytest.mark.parametrize("loop", LOOPS)
def test_aiohttp_serves_as_it_does_on_the_loop_itself(
    loop: str, engine: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3 << 20))
    compared(loop, engine, program("aiohttp"), file)


@pytest.mark.parametrize("loop", LOOPS)
def test_websockets_serves_as_it_does_on_the_loop_itself(loop: str, engine: str) -> None:
    compared(loop, engine, program("websockets"))


def answered(server: Program) -> bytes:
    """Return what uvicorn answers; nothing before it listens, of which it tells too early."""
    where = re.search(r"http://(\S+)", server.said())
    if not where:
        return b""
    try:
        with Peer(where[1]) as peer:
            peer.send(b"GET /loop HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            return peer.read_all()
    except ConnectionRefusedError:
        return b""


@pytest.mark.parametrize("options", ["", "--workers 2"])
@pytest.mark.parametrize("loop", LOOPS)
def test_uvicorn_takes_a_loop_of_ours_on_its_command_line(
    loop: str, options: str, engine: str, tmp_path: Path
) -> None:
    program("uvicorn")
    factory = {"asyncio": "new_event_loop", "uvloop": "new_uvloop"}[loop]
    app = f"{__package__}.programs.uvicorn_server:app"
    command = f"-m uvicorn {app} --port 0 --loop muxcore.aio:{factory} {options}"
    server = Program([sys.executable, *command.split()], tmp_path)
    try:
        server.until(lambda: b"Muxcore" in answered(server))
    finally:
        status = server.end(signal.SIGTERM)
    assert status in (0, -signal.SIGTERM), server.said()
    assert "Traceback" not in server.said()
