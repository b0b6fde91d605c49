"""The file that names who serves, and `muxcore reload`, which goes by it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore import cli
from muxcore.restarting.pidfile import Pidfile
from muxcore.testing import Peer, eventually
from tests.restarting.service import asked, ended, greeting

Start = Callable[..., Any]
Tell = Callable[..., None]
Reload = Callable[..., tuple[int, str]]


@pytest.fixture
def reload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Reload:
    """What runs the command in the folder; it returns its status, and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = cli.main(["reload", *arguments])
        return status, "".join(capsys.readouterr()).strip()

    return run


def test_reload_waits_for_who_takes_over_and_tells_of_a_failure_at_once(
    start: Start, tell: Tell, reload: Reload, tmp_path: Path
) -> None:
    tell(pidfile="pid")
    service = start()
    first, (where,) = service.pid, service.addresses
    assert (tmp_path / "pid").read_text() == f"{first}\n"
    with Peer(where) as peer:
        greeting(peer)
        tell("broken", (where,), fails="at import", pidfile="pid")
        said = f"muxcore: process {first} serves on: its successor has failed, its log says why"
        assert reload("pid") == (1, said)
        assert asked(where)[:2] == ("one", first)
        tell("two", (where,), pidfile="pid")
        status, said = reload("pid")
        second = service.serves()
        assert (status, said) == (0, f"process {second} took over from process {first}")
    eventually(lambda: ended(first), service.log)
    assert (tmp_path / "pid").read_text() == f"{second}\n"  # not the old one's to remove
    service.end()
    assert sorted(each.name for each in tmp_path.glob("pid*")) == []


def test_reload_says_what_is_wrong(reload: Reload, tmp_path: Path) -> None:
    said = "muxcore: there is no pid: nobody serves who was given it by --pidfile"
    assert reload("pid") == (1, said)
    (tmp_path / "pid").write_text("none\n")
    said = "muxcore: pid is no pidfile: there is no process's number in it"
    assert reload("pid") == (1, said)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "pid").write_text(f"{child.pid}\n")
    status, said = reload("pid")
    assert status == 1
    assert said.startswith(f"muxcore: process {child.pid} does not hear SIGUSR2, and would be")
    assert child.poll() is None
    child.kill()
    child.communicate()
    status, said = reload("pid")
    assert status == 1
    assert said.startswith(f"muxcore: there is no process {child.pid}: pid is left over")


@pytest.mark.deep
def test_a_command_that_serves_has_a_pidfile(start: Start, reload: Reload, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("999999999\n")  # of another boot
    service = start("-m", "muxcore", "echo", "0", "--pidfile", "pid")
    eventually(lambda: (tmp_path / "pid").read_text() == f"{service.pid}\n", "it is not written")
    first = service.pid
    status, said = reload("pid")
    assert (status, said) == (0, f"process {service.serves()} took over from process {first}")
    service.end()
    assert not (tmp_path / "pid").exists()


def test_what_is_no_pidfile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("7 things\n")
    server = muxcore.Server(muxcore.Echo, 0)
    with pytest.raises(muxcore.PidfileError, match="notes is no pidfile"):
        server.run(pidfile=tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "7 things\n"
    with pytest.raises(muxcore.PidfileError, match="there is no folder"):
        server.run(pidfile=tmp_path / "none" / "pid")
    with pytest.raises(muxcore.PidfileError, match="cannot be read: Is a directory"):
        server.run(pidfile=tmp_path)
    server.stop()


def test_it_is_removed_only_if_it_names_this_process(tmp_path: Path) -> None:
    file = Pidfile(tmp_path / "pid")
    file.write()
    (tmp_path / "pid").write_text("1\n")
    file.remove()
    assert (tmp_path / "pid").read_text() == "1\n"
    file.write()
    file.remove()
    assert list(tmp_path.iterdir()) == []
    file.remove()
