"""The servers that others would write: they know nothing of muxcore, and serve what is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from muxcore.compare import peers
from muxcore.compare.servers import ServerProcess
from muxcore.compare.warming import warm


@pytest.mark.parametrize("name", peers.NAMES)
def test_a_peer_echoes_and_ends_on_sigterm(name: str, tmp_path: Path) -> None:
    if why := peers.missing(name):
        pytest.skip(why)
    with ServerProcess(peers.subject(name, tmp_path)) as server:
        result = warm(server.address)
        assert result.ok
        assert result.answered > 0
        assert server.stop() in (0, -15)


def test_asyncio_s_peer_loads_nothing_of_muxcore() -> None:
    path = str(peers.HERE / "asyncio_echo.py")
    text = (
        f"import runpy, sys\nrunpy.run_path({path!r}, run_name='x')\n"
        "print([name for name in sys.modules if name.startswith('muxcore')])"
    )
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_a_peer_is_compiled_once(tmp_path: Path) -> None:
    if why := peers.missing("floor"):
        pytest.skip(why)
    made = peers.compiled(peers.HERE / "floor_echo.c", tmp_path)
    when = made.stat().st_mtime_ns
    assert peers.compiled(peers.HERE / "floor_echo.c", tmp_path).stat().st_mtime_ns == when
