"""``muxcore admin``, and a server that is started with ``--admin``."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore import cli
from muxcore.cli import admin as command
from muxcore.testing.peer import DEADLINE
from muxcore.testing.upstream import Upstream
from tests.admin.conftest import Asked

Start = Callable[..., Asked]


@pytest.fixture
def shell(asked: Start, upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> Any:
    """What runs ``muxcore admin``, and returns its status, its lines and its complaint."""
    one = asked(muxcore.Relay(muxcore.Pool(upstream.address, "127.0.0.1:9", name="db")))

    def run(*words: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        status = cli.main(["admin", *words[:0], one.admin.addresses["socket"], *words])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    run.one = one  # type: ignore[attr-defined]
    return run


def test_people_read_tables(shell: Any, upstream: Upstream) -> None:
    one = shell.one
    with one.client(upstream) as client:
        status, lines, _ = shell("status")
        assert status == 0
        assert lines[0].endswith(f"engine pure-epoll, pid {os.getpid()}: ready")
        assert lines[-1].split() == ["db", "2", "2", "1", "0", "0"]
        _, lines, _ = shell("connections", "--pool", "db", "--older", "0s")
        assert lines[0].split()[:3] == ["id", "state", "client"]
        assert lines[1].split()[1] == "joined"
        _, lines, _ = shell("kill", lines[1].split()[0])
        assert lines == ["1 killed"]
        client.read_end()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (59, "59s"),
        (3599, "59m 59s"),
        (90_000, "1d 1h"),
        (34_560_001, "400d 0h"),
    ],
)
def test_a_long_time_is_shown_in_days(seconds: int, shown: str) -> None:
    assert command._how_long(seconds) == shown


def test_upstreams_are_steered(shell: Any, upstream: Upstream) -> None:
    name = upstream.address
    assert shell("weight", name, "0")[2].startswith("muxcore: weight must be a whole number from 1")
    assert shell("weight", name, "7") == (0, [], "")
    assert shell("drain", "127.0.0.1:9", "--pool", "db") == (0, [], "")
    assert shell("add", "127.0.0.1:10", "--weight", "2", "--backup") == (0, [], "")
    rows = [line.split() for line in shell("pools")[1][1:]]
    assert rows[-1][-1] == "backup"
    assert [row[1:4] for row in rows] == [
        [name, "up", "7"],
        ["127.0.0.1:9", "out", "1"],
        ["127.0.0.1:10", "up", "2"],
    ]
    assert shell("ready", "127.0.0.1:9")[0] == shell("remove", "127.0.0.1:9")[0] == 0
    assert [line.split()[1] for line in shell("pools")[1][1:]] == [name, "127.0.0.1:10"]


def test_programs_read_json_and_metrics(
    shell: Any, capsys: pytest.CaptureFixture[str], upstream: Upstream
) -> None:
    where = shell.one.admin.addresses["socket"].removeprefix("unix:")
    assert cli.main(["admin", "--json", where, "pools"]) == 0
    assert json.loads(capsys.readouterr().out)["pools"][0]["pool"] == "db"
    assert cli.main(["admin", where, "pools", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []
    assert any("muxcore_build_info" in line for line in shell("metrics")[1])


def test_what_the_server_refuses_is_said(shell: Any) -> None:
    status, _, why = shell("drain", "db:9")
    assert status == 1
    assert "no upstream 'db:9'" in why
    assert "by a program" in shell("config")[2]


def test_what_is_asked_for_by_name_and_is_not_there_is_said(shell: Any, upstream: Upstream) -> None:
    with shell.one.client(upstream):
        assert shell("connections", "--pool", "dbs")[2] == (
            "muxcore: there is no pool 'dbs': did you mean db?\n"
        )
        status, lines, why = shell("kill", "--upstream", "db:9")
        assert (status, lines) == (1, ["0 killed"])
        assert "no upstream 'db:9'" in why
        assert shell("kill", "1-1", "1-2")[::2] == (
            1,
            "muxcore: 2 of these are not connected (any more)\n",
        )
        assert shell("connections", "--older", "1d")[::2] == (0, "")


def test_who_cannot_be_reached_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], upstream: Upstream
) -> None:
    assert cli.main(["admin", f"{tmp_path}/nix", "status"]) == 1
    assert "was the server started with --admin?" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/dead")
    assert cli.main(["admin", f"{tmp_path}/dead", "status"]) == 1
    assert "nobody listens there" in capsys.readouterr().err
    with muxcore.Server(muxcore.Discard, f"unix:{tmp_path}/other", engine="pure-epoll") as other:
        assert other.ready
    with pytest.raises(SystemExit):
        cli.main(["admin", f"{tmp_path}/nix", "kill"])
    assert "kill needs an ID" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("status",), ("drain", "db:1")])
def test_one_that_hangs_is_not_waited_for_and_is_told_no_change(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_BEGINS", 0.1)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(f"{tmp_path}/hung")
        hung.listen(0)
        assert cli.main(["admin", f"{tmp_path}/hung", *words]) == 1
        why = capsys.readouterr().err
        assert "hung: no answer within 0.1 s: its process is stopped, hangs, or gets no CPU" in why
        assert "may have been made" not in why
        assert cli.main(["admin", f"{tmp_path}/hung", *words]) == 1  # its backlog is full by now
        assert "SIGCONT lets one go on" in capsys.readouterr().err
        there, _ = hung.accept()
        with there, there.makefile("rb") as said:
            assert not said.read().startswith(b"POST")


def test_who_does_not_say_that_a_change_is_made_may_make_it_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(f"{tmp_path}/hung")
        hung.listen()

        def answer_first() -> None:
            there, _ = hung.accept()
            with there:
                there.recv(65_536)
                there.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        answers = threading.Thread(target=answer_first)
        answers.start()
        assert cli.main(["admin", f"{tmp_path}/hung", "drain", "db:1"]) == 1
        answers.join(DEADLINE)
    assert "look before you repeat it" in capsys.readouterr().err


def test_a_name_cannot_write_on_the_terminal() -> None:
    rows = list(command._table(("a",), [("evil\x1b[2J\nrow",)]))
    assert rows == ["a", "evil\\x1b[2J\\nrow"]
