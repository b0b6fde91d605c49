"""Each example as a newcomer runs it: a program of its own, on every engine that can carry it.

The deep tests do that; `make test` takes the engine that a newcomer has, and the plainest.

One that is a program of asyncio's, which needs a guest (``REQUIRES`` in its tests says so), runs on
one engine in asyncio's loop, and on the next in uvloop's: tests/aio has them all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import muxcore
from muxcore.testing import Peer
from muxcore.testing.hosted import is_here
from muxcore.testing.peer import DEADLINE
from tests.usual import usual

from .model import MODELS, Start, running

_ROOT = Path(__file__).parents[2]

_ENGINES = [info.name for info in muxcore.engines()]
_GUESTS = [info.name for info in muxcore.engines() if "guest" in info.capabilities]
_LOOPS = [name for name in ("asyncio", "uvloop") if is_here(name)]
_USUAL = {muxcore.engine().name, "pure-select"}
_IN_UVLOOP = """\
import asyncio, runpy, sys, uvloop
asyncio.run = uvloop.run
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a guest on each engine that can be one, in the loops in turns."""
    if "engine" not in metafunc.fixturenames:
        return
    if "guest" not in getattr(metafunc.module, "REQUIRES", ()):
        metafunc.parametrize("engine", usual(_ENGINES, _USUAL), indirect=True, scope="module")
    elif "loop" not in metafunc.fixturenames:
        metafunc.parametrize("engine", usual(_GUESTS, _USUAL), indirect=True, scope="module")
    else:
        hosted = list(zip(_GUESTS, itertools.cycle(_LOOPS), strict=False))
        rows = usual(hosted, _USUAL)
        metafunc.parametrize(("engine", "loop"), rows, indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    info = next(each for each in muxcore.engines() if each.name == request.param)
    if not info.available:
        pytest.skip(info.reason)
    required: frozenset[str] = getattr(request.module, "REQUIRES", frozenset())
    if missing := required - info.capabilities:
        pytest.skip(f"{info.name} has no {', '.join(missing)}")
    return info.name


@pytest.fixture(scope="module")
def loop(request: pytest.FixtureRequest) -> str:
    """Whose event loop the example runs in, where it runs in one."""
    return str(getattr(request, "param", "asyncio"))


@pytest.fixture(scope="module")
def arguments() -> tuple[str, ...]:
    """What the example is told beside its address: a module that needs some replaces this."""
    return ()


@pytest.fixture(scope="module")
def program(
    request: pytest.FixtureRequest, engine: str, loop: str, arguments: tuple[str, ...]
) -> Iterator[Running]:
    """Run the example that the test's module names."""
    told = ("127.0.0.1:0", "--engine", engine, *arguments)
    with _started(request.module.EXAMPLE, *told, loop=loop) as process:
        program = Running(process)
        yield program
        assert program.end() == 0, "SIGTERM and a complete drain end it with 0"


@pytest.fixture(scope="module")
def where(program: Running) -> str:
    """Return the address that the example listens on."""
    return program.address


@pytest.fixture
def example(where: str) -> Iterator[Callable[[], Peer]]:
    """What connects a client to the example."""
    with contextlib.ExitStack() as peers:
        yield lambda: peers.enter_context(Peer(where))


@pytest.fixture
def start_example(engine: str, loop: str) -> Iterator[Callable[..., Running]]:
    """What runs an example for one test."""
    with contextlib.ExitStack() as running:

        def start(name: str, *arguments: str, stderr: int | None = None) -> Running:
            told = ("127.0.0.1:0", "--engine", engine, *arguments)
            return Running(running.enter_context(_started(name, *told, loop=loop, stderr=stderr)))

        yield start


@pytest.fixture(scope="session")
def run_example() -> Callable[..., tuple[int, str]]:
    """What runs an example that ends by itself; returns its status and what it complained."""

    def run(*arguments: str) -> tuple[int, str]:
        with _started(*arguments, stderr=subprocess.PIPE) as program:
            _, complaint = program.communicate(timeout=DEADLINE)
            return program.returncode, complaint

    return run


class Running:
    """An example that listens.

    Attributes:
        process: its process.
        address: where.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self._said = process.stdout
        said = self._said.readline()  # it ends, or it prints this line
        assert said.startswith("listening on "), f"it printed {said!r} instead of its address"
        self.address = said.split()[2]

    def line_with(self, text: str) -> str:
        """Return the next line that it prints with such a text."""
        for line in self._said:
            if text in line:
                return line
        raise AssertionError(f"it ended before it printed {text!r}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Let it end; return its status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@contextlib.contextmanager
def _started(
    name: str, *arguments: str, loop: str = "asyncio", stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    launcher = ["-c", _IN_UVLOOP] if loop == "uvloop" else []
    program = subprocess.Popen(
        [sys.executable, *launcher, str(_ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    with program:
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(model: str, tmp_path: Path) -> Start:
    """What runs the model; see ``model.running``."""
    return partial(running, model, tmp_path)
