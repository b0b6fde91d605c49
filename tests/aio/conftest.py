"""Every engine that can be a guest, in asyncio and in uvloop; nothing may be left in the end."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

import muxcore
import muxcore.aio as mux
from muxcore.testing.hosted import is_here
from muxcore.testing.peer import DEADLINE

GUESTS = [i.name for i in muxcore.engines() if i.available and "guest" in i.capabilities]
LOOPS = [name for name in ("asyncio", "uvloop") if is_here(name)]

Main = Callable[[], Coroutine[Any, Any, Any]]


class Runs(Protocol):
    """Runs an async function, for at most so many seconds."""

    def __call__(self, main: Main, deadline: float = DEADLINE) -> Any: ...


# Each engine in asyncio's loop, and the first in every other: that is deep, since of a loop no more
# is asked than a timer, and a descriptor to be watched.
PLACES = [(name, LOOPS[0]) for name in GUESTS] + [
    pytest.param((GUESTS[0], loop), marks=pytest.mark.deep) for loop in LOOPS[1:]
]


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An engine, and the loop that it is a guest in."""
    engine, loop = request.param
    return engine, loop


@pytest.fixture
def engine(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of the test's servers, and of what its loop opens by itself."""
    monkeypatch.setenv("MUXCORE_ENGINE", place[0])
    return place[0]


@pytest.fixture
def run(place: tuple[str, str], engine: str) -> Runs:
    """Run an async function in a loop of its own; see that no descriptor and no task is left."""

    def run(main: Main, deadline: float = DEADLINE) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(deadline):
                result = await main()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks are left: {left}"
            return result

        loop_run: Any = importlib.import_module(place[1]).run
        loop_run(asyncio.sleep(0))  # libuv has a pipe of its process's from its first loop on
        before, threads = open_descriptors(), set(threading.enumerate())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            result = loop_run(bounded())
            gc.collect()
        assert open_descriptors() <= before, "descriptors are left"
        assert set(threading.enumerate()) <= threads, "threads are left"
        lost = [str(each.message) for each in caught if each.category is ResourceWarning]
        assert lost == [], "a connection was not closed"
        return result

    return run


def open_descriptors() -> set[str]:
    """Return what is open, by number and file."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # that of listdir itself
            continue
    return found


@asynccontextmanager
async def serving(handler: Any, **options: Any) -> AsyncIterator[mux.Server]:
    """Serve on a free port while the block runs."""
    async with mux.serve(handler, "127.0.0.1:0", **options) as server:
        yield server


async def dialled(server: mux.Server) -> mux.Connection:
    """Return a connection to a server, as any client's."""
    return await mux.connect(server.addresses[0])
