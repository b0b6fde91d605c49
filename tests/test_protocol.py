"""What a protocol may look like."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.protocol import CALLBACKS, handles

_NO_OPS: list[type[Any]] = [
    muxcore.StreamProtocol,
    muxcore.BufferedProtocol,
    asyncio.Protocol,
    asyncio.BufferedProtocol,
]


@pytest.mark.parametrize("base", _NO_OPS)
def test_a_callback_that_is_inherited_and_does_nothing_is_none_of_its_own(base: type[Any]) -> None:
    class Silent(base):  # type: ignore[misc]
        pass

    class Pauses(base):  # type: ignore[misc]
        def pause_writing(self) -> None: ...

    assert not any(handles(Silent(), name) for name in (*CALLBACKS, "connection_lost"))
    assert handles(Pauses(), "pause_writing")
    assert not handles(Pauses(), "resume_writing")


def test_the_two_classes_name_every_callback() -> None:
    named = {*dir(muxcore.StreamProtocol), *dir(muxcore.BufferedProtocol)}
    assert {*CALLBACKS, "connection_lost"} <= named


_SERVICE = """
import muxcore

class Upper(muxcore.StreamProtocol):
    def connection_made(self, transport: muxcore.Transport) -> None:
        self.transport = transport

    def data_received(self, data: {data}) -> None:
        self.transport.write(data.upper())
        self.transport.server.call_later(1, self.transport.close).cancel()

muxcore.Server(Upper, 0)
"""


@pytest.mark.deep  # lint checks all of muxcore
def test_a_type_checker_knows_the_callbacks(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(_SERVICE.format(data="bytes"))
    wrong.write_text(_SERVICE.format(data="str"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), right, wrong]
    root = Path(muxcore.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert 'wrong.py:8: error: Argument 1 of "data_received" is incompatible' in done.stdout
    assert "right.py" not in done.stdout
