"""The wheel, installed into empty environments, away from the source tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(240)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Environment = Callable[[Path], Path]

# What the tutorial's servers could not do: all of 5,000 bytes back, for 20 clients at once.
_ECHO = """
import socket, sys, muxcore
from muxcore.address import Address
payload = bytes(range(250)) * 20
for name in sys.argv[1:]:
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine=name) as server:
        port = int(str(server.addresses[0]).rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(20)]
        for client in clients:
            client.sendall(payload)
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            with client:
                assert client.makefile("rb").read() == payload, name
    print(name, "echoes")
"""


def _available(run: Run, python: Path, cwd: Path) -> dict[str, dict[str, object]]:
    shown = run(python.parent / "muxcore", "engines", "--json", cwd=cwd).stdout
    return {info["name"]: info for info in json.loads(shown)}


def test_the_wheel_installs_and_every_engine_of_it_echoes(
    interpreter: Path, installed: Environment, run: Run, tmp_path: Path
) -> None:
    python = installed(interpreter)
    engines = _available(run, python, tmp_path)
    assert engines["native-epoll"]["available"], engines["native-epoll"]["reason"]
    names = [name for name in engines if name.startswith(("native-", "pure-"))]
    assert all(engines[name]["available"] for name in names), engines
    (tmp_path / "echo.py").write_text(_ECHO)
    done = run(python, tmp_path / "echo.py", *names, cwd=tmp_path)
    assert done.stdout.count("echoes") == len(names) >= 4


@pytest.mark.timeout(420)
def test_both_suites_pass_against_the_installed_wheel(
    wheel: Path, installed: Environment, run: Run, root: Path, tmp_path: Path
) -> None:
    python = installed(Path(sys.executable))
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[test]")
    for suite in ("contract", "survival"):
        shutil.copytree(root / "tests" / suite, tmp_path / "tests" / suite)
    shutil.copy(root / "pyproject.toml", tmp_path)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "3"]
    done = run(*command, cwd=tmp_path, timeout=400)
    assert "native-epoll" in _available(run, python, tmp_path)
    assert " passed" in done.stdout
    where = run(python, "-c", "import muxcore; print(muxcore.__file__)", cwd=tmp_path).stdout
    assert "site-packages" in where


def test_the_sdist_installs_where_no_wheel_fits_and_leaves_nothing_when_it_goes(
    sdist: Path, environment: Environment, run: Run, tmp_path: Path
) -> None:
    python = environment(Path(sys.executable))
    run(python, "-m", "pip", "install", "--quiet", sdist)
    assert _available(run, python, tmp_path)["native-epoll"]["available"]
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "muxcore")
    assert list(python.parents[1].rglob("*muxcore*")) == []
