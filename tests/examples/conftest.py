"""Each example as a newcomer runs it: a program of its own, on every engine that can carry it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import muxcore
from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE

from .model import MODELS, Start, running

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=[info.name for info in muxcore.engines()])
def engine(request: pytest.FixtureRequest) -> str:
    info = next(each for each in muxcore.engines() if each.name == request.param)
    if not info.available:
        pytest.skip(info.reason)
    required: frozenset[str] = getattr(request.module, "REQUIRES", frozenset())
    if missing := required - info.capabilities:
        pytest.skip(f"{info.name} has no {', '.join(missing)}")
    return info.name


@pytest.fixture(scope="module")
def arguments() -> tuple[str, ...]:
    """What the example is told beside its address: a module that needs some replaces this."""
    return ()


@pytest.fixture(scope="module")
def announced(
    request: pytest.FixtureRequest, engine: str, arguments: tuple[str, ...]
) -> Iterator[str]:
    """Run the example that the test's module names; return the line that it prints."""
    example = request.module.EXAMPLE
    with _started(example, "127.0.0.1:0", *arguments, "--engine", engine) as program:
        assert program.stdout is not None
        said = program.stdout.readline()  # it ends, or it prints this line
        assert said.startswith("listening on "), f"it printed {said!r} instead of its address"
        yield said
        program.terminate()
        assert program.wait(DEADLINE) == 0, "SIGTERM and a complete drain end it with 0"


@pytest.fixture(scope="module")
def where(announced: str) -> str:
    """Return the address that the example listens on."""
    return announced.split()[2]


@pytest.fixture
def example(where: str) -> Iterator[Callable[[], Peer]]:
    """What connects a client to the example."""
    with contextlib.ExitStack() as peers:
        yield lambda: peers.enter_context(Peer(where))


@pytest.fixture(scope="session")
def run_example() -> Callable[..., tuple[int, str]]:
    """What runs an example that ends by itself; returns its status and what it complained."""

    def run(*arguments: str) -> tuple[int, str]:
        with _started(*arguments, stderr=subprocess.PIPE) as program:
            _, complaint = program.communicate(timeout=DEADLINE)
            return program.returncode, complaint

    return run


@contextlib.contextmanager
def _started(
    name: str, *arguments: str, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, str(_ROOT / "examples" / f"{name}.py"), *arguments],
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
