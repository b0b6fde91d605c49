"""The options by which a command that serves is seen and steered."""

from __future__ import annotations

import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]


def test_a_command_that_serves_is_seen_until_its_end(command: Start, tmp_path: Path) -> None:
    server = command(
        *("echo", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--admin", f"unix:{tmp_path}/a")
    )
    assert server.address
    assert server.line() == f"admin on unix:{tmp_path}/a"
    metrics = server.line().removeprefix("metrics on ")
    with urllib.request.urlopen(f"http://{metrics}/readyz") as answer:
        assert answer.read() == b"ok\n"
    server.signal(signal.SIGTERM)
    assert server.status() == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--admin", "127.0.0.1:0"], "--admin must be a path"),
        (["--metrics", "nowhere:nothing"], "nowhere:nothing"),
        (["--admin", "unix:/x", "--engine", "pure-process"], "a process for each client"),
        (["--admin", "unix:/there/is/none"], "/there/is/none"),
    ],
)
def test_what_cannot_be_is_said(command: Start, flags: list[str], why: str) -> None:
    server = command("echo", "127.0.0.1:0", *flags)
    try:
        assert server.status() in (1, 2)
    except subprocess.TimeoutExpired:
        pytest.fail("it serves all the same")
    assert why in server.complaint()
