"""Log files of commands that serve: they are moved away, cannot be opened, cannot be written."""

from __future__ import annotations

import functools
import json
import logging
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.cli._logging import Dated
from muxcore.testing import Peer, eventually
from muxcore.testing.suite import meanwhile
from muxcore.testing.upstream import refusing
from tests.usual import usual

Start = Callable[..., Any]

_ENGINES = [i.name for i in muxcore.engines() if i.available and "relay" in i.capabilities]
_CLIENTS, _EACH, _ROTATIONS = 2, 40, 10


def _play(where: str, times: int) -> None:
    for _ in range(times):
        Peer.play(where, "send 10; read 10; shutdown-write; read-eof; close")


@pytest.mark.parametrize("engine", usual(_ENGINES))
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_no_line_is_lost_when_the_file_is_moved_away_under_load(
    command: Start, tmp_path: Path, engine: str, number: signal.Signals
) -> None:
    echo = command("echo", "0", "--engine", "pure-epoll")
    log = tmp_path / "access.log"
    options = ("--access-log", "json", "--access-log-file", str(log), "--engine", engine)
    relay = command("relay", "0", echo.address, *options)
    with meanwhile(*[functools.partial(_play, relay.address, _EACH)] * _CLIENTS):
        for rotation in range(_ROTATIONS):
            eventually(log.exists, "there is no log")
            log.rename(tmp_path / f"access.log.{rotation}")
            relay.signal(number)  # which makes it anew, also when nobody comes
    relay.signal(signal.SIGTERM)
    assert relay.status() == 0
    lines = [line for each in tmp_path.iterdir() for line in each.read_text().splitlines()]
    assert len(lines) == _CLIENTS * _EACH
    assert {json.loads(line)["bytes_down"] for line in lines} == {10}


def test_messages_go_to_a_file_that_is_opened_again(command: Start, tmp_path: Path) -> None:
    log = tmp_path / "messages"
    echo = command("echo", "0", "--log", str(log), "--drain-timeout", "600")
    with Peer(echo.address) as peer:
        peer.send(b"x")
        assert peer.read(1) == b"x"
        echo.signal(signal.SIGUSR2)
        eventually(lambda: "SIGUSR2" in log.read_text(), "it is logged")
        log.rename(tmp_path / "messages.1")
        echo.signal(signal.SIGUSR1)
        eventually(log.exists, "it is made again")
        echo.signal(signal.SIGTERM)
        eventually(lambda: "draining 1 client " in log.read_text(), "it is logged")
    assert echo.status() == 0
    assert "muxcore: 1 finished, 0 stopped after" in log.read_text().splitlines()[-1]
    assert len((tmp_path / "messages.1").read_text().splitlines()) == 1
    assert echo.complaint() == ""


def test_a_file_that_cannot_be_opened_again_costs_its_lines_and_nothing_else(
    command: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    upstream = command("echo", "0")
    relay = command("relay", "0", upstream.address, "--access-log-file", str(folder / "access"))
    _play(relay.address, 1)
    eventually(lambda: bool((folder / "access").read_text()), "the first is logged")
    folder.rename(tmp_path / "moved")
    relay.signal(signal.SIGHUP)
    _play(relay.address, 2)
    with Peer(relay.address) as kept:  # it serves on
        kept.send(b"x")
        assert kept.read(1) == b"x"
        folder.mkdir()
    eventually(lambda: (folder / "access").exists(), "it is opened again")
    relay.signal(signal.SIGTERM)
    assert relay.status() == 0
    lost, kept_lines = 0, len((folder / "access").read_text().splitlines())
    for line in relay.complaint().splitlines():
        lost += int(line.split()[1]) if line.endswith("were lost") else 0
    assert "cannot be written: " in relay.complaint()
    assert lost + kept_lines == 3
    assert "Traceback" not in relay.complaint()


@pytest.mark.parametrize("option", ["--log", "--access-log-file"])
def test_a_file_that_cannot_be_opened_is_status_1_with_a_reason(
    command: Start, tmp_path: Path, option: str
) -> None:
    program = command("relay", "0", "db:1", option, f"{tmp_path}/nowhere/log")
    assert program.status() == 1
    assert program.complaint() == (
        f"muxcore: {option} {tmp_path}/nowhere/log: No such file or directory\n"
    )


def test_quiet_keeps_the_access_log(command: Start, tmp_path: Path) -> None:
    upstream = command("echo", "0")
    where = f"unix:{tmp_path}/s"
    relay = command("relay", where, upstream.address, "--access-log", "text", "-q")

    def served() -> bool:  # it says nothing that could be waited for
        try:
            _play(where, 1)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    eventually(served, "nobody listens")
    assert ", closed" in relay.line()


def test_messages_have_the_time_as_the_access_log_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the zone of the machine and one in UTC cannot be read side by side."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        record = logging.makeLogRecord({"msg": "hello", "created": 0.5})
        assert Dated().format(record) == "1970-01-01T00:00:00.500+00:00 muxcore: hello"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_limit_that_the_descriptors_cannot_reach_is_told(command: Start, tmp_path: Path) -> None:
    config, log = tmp_path / "relay.toml", tmp_path / "log"
    config.write_text(
        f'[server.limits]\nconnections = {1 << 30}\n[listeners.a]\naddress = "127.0.0.1:0"\n'
        f'pool = "p"\n[pools.p]\nupstreams = "127.0.0.1:9"\n[log]\nmessages = "{log}"\n'
    )
    relay = command("relay", "--config", str(config))
    assert relay.address
    assert "clients take 2,147,483,648 descriptors in a process, which may have" in log.read_text()
    relay.signal(signal.SIGTERM)
    assert relay.status() == 0


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("", r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 127\.0\.0\.1:\d+: 0 bytes up, .*"),
        ('fields = ["pool", "ended"]', "pool=p ended=refused"),
        ('access = "json"\nfields = ["pool"]', r'\{"pool": "p"\}'),
    ],
    ids=["sentence", "fields", "json"],
)
def test_a_sentence_of_the_access_log_has_its_time_in_a_file(
    command: Start, tmp_path: Path, settings: str, line: str
) -> None:
    config, log = tmp_path / "relay.toml", tmp_path / "log"
    with refusing() as dead:
        config.write_text(
            f'[listeners.a]\naddress = "127.0.0.1:0"\npool = "p"\n[pools.p]\n'
            f'upstreams = "{dead}"\n[log]\naccess_file = "{log}"\n{settings}\n'
        )
        relay = command("relay", "--config", str(config))
        with Peer(relay.address) as client:
            client.read_end()
        eventually(lambda: log.read_text().endswith("\n"), "there is no line")
        relay.signal(signal.SIGTERM)
        assert relay.status() == 0
    (found,) = log.read_text().splitlines()
    assert re.fullmatch(line, found)
