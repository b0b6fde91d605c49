"""What a process is told of its predecessor: only what is true, and nobody else after it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from muxcore.restarting import program


def test_a_channel_is_taken_once_and_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        theirs.set_inheritable(True)
        number = theirs.detach()
        monkeypatch.setenv(program._VARIABLE, f"{number}:{os.fstat(number).st_ino}")
        found = program._inherited()
        assert found is not None
        with found:
            assert (found.fileno(), found.get_inheritable()) == (number, False)
            assert program._VARIABLE not in os.environ
            assert program._inherited() is None


@pytest.mark.parametrize("told", ["", "x", "5", "5:", "x:y", "1000000:5", "0:1"])
def test_what_is_no_channel_is_not_believed(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv(program._VARIABLE, told)
    assert program._inherited() is None
    assert program._VARIABLE not in os.environ


def test_a_file_of_that_inode_is_no_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    number = os.memfd_create("none")
    monkeypatch.setenv(program._VARIABLE, f"{number}:{os.fstat(number).st_ino}")
    assert program._inherited() is None
    os.close(number)


def test_what_a_supervisor_has_said_to_one_process_is_not_said_to_another() -> None:
    program = (
        "import os, socket; from muxcore.restarting import program\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "print(sorted({'LISTEN_PID', 'WATCHDOG_PID', 'KEPT'} & set(program._told(ours))))"
    )
    told = os.environ | {"LISTEN_PID": "7", "WATCHDOG_PID": "7", "KEPT": "yes"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=told, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "['KEPT']", done.stderr
