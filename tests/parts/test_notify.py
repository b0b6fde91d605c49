"""What is said to the supervisor."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxcore.parts import notify as notifying
from muxcore.parts.notify import notify


@pytest.fixture(autouse=True)
def new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(notifying, "_failing", False)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


def test_without_a_supervisor_nothing_is_said() -> None:
    assert not notify("READY=1")


def test_a_datagram_has_an_assignment_a_line(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.getsockname())
    assert notify("READY=1", "STATUS=on unix:/a\nb")
    assert supervisor.recv(4096) == b"READY=1\nSTATUS=on unix:/a b"


def test_the_abstract_namespace_is_written_with_an_at_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0muxcore{tmp_path}"[:100])
        sock.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + sock.getsockname()[1:].decode())
        assert notify("READY=1")
        assert sock.recv(4096) == b"READY=1"


@pytest.mark.parametrize("where", ["/nowhere/notify", "vsock:2:1234", "/" + 200 * "x"])
def test_a_failure_is_no_error_and_the_log_says_the_first_one(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", where)
    with caplog.at_level(logging.WARNING, "muxcore"):
        assert not notify("READY=1")
        assert not notify("READY=1")
    assert len(caplog.records) == 1
    assert f"NOTIFY_SOCKET={where}: the supervisor cannot be told" in caplog.text


def test_a_supervisor_that_does_not_read_holds_up_nobody_for_long(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.getsockname())
    monkeypatch.setattr(notifying, "_PATIENCE", 0.01)
    for _ in range(100_000):  # net.unix.max_dgram_qlen is 10 by default
        if not notify("WATCHDOG=1"):
            break
    else:
        pytest.fail("the queue has no end")
    supervisor.recv(4096)
    assert notify("WATCHDOG=1")
