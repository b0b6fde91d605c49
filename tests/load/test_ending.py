"""A load of several processes that is ended: with its result, or without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing import DEADLINE, eventually

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def load() -> Iterator[Any]:
    """What starts ``muxcore load``, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(address: object, *arguments: str) -> subprocess.Popen[str]:
        command = ["-m", "muxcore", "load", str(address), *arguments]
        started.append(
            subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for each in started:
        if each.poll() is None:
            each.kill()
        each.communicate()


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("generator", ["auto", pytest.param("pure", marks=pytest.mark.deep)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_the_run_early_with_its_result_and_a_status_that_tells(
    serve: Any, answers: Any, load: Any, number: signal.Signals, generator: str, processes: str
) -> None:
    server = serve(answers["echo"]())
    options = ("-c", "4", "--duration", "600", "--warmup", "0", "--json")
    program = load(server.address, *options, "--generator", generator, "--processes", processes)
    eventually(lambda: server.received > 100, "it sends nothing")
    program.send_signal(number)
    out, complaint = program.communicate(timeout=DEADLINE)
    assert complaint == ""
    assert program.returncode == 128 + number
    found = json.loads(out)
    assert found["ok"]
    assert found["ended_by"] == number.name
    assert found["answered"] > 0
    assert found["seconds"] < 600


@pytest.mark.parametrize(
    ("ramp", "messages"), [("0", 200), ("60", 0)], ids=["measuring", "connecting"]
)
def test_clients_whose_starter_is_killed_end_without_a_word(
    serve: Any, answers: Any, load: Any, ramp: str, messages: int
) -> None:
    server = serve(answers["echo"]())
    options = ("-c", "40", "--duration", "600", "--ramp", ramp, "--processes", "2")
    program = load(server.address, *options)
    eventually(lambda: server.accepted >= 2, "it does not connect")
    eventually(lambda: server.received >= messages, "it does not measure")
    program.kill()
    # They hold its output open: its end is theirs.
    _, complaint = program.communicate(timeout=DEADLINE)
    assert complaint == ""
