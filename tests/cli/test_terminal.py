"""SIGHUP: a request to reload, or the end of the terminal that a command was typed into."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxcore.testing import DEADLINE, Peer

_ROOT = Path(__file__).parents[2]

# What a shell does for a command: a session with this terminal, of which it is the foreground
_IN_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "muxcore", *sys.argv[2:]])
"""


class InTerminal:
    """A command in a terminal of its own.

    Attributes:
        address: where it listens.
    """

    def __init__(self, how: str, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, how, *arguments],
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(self._ours, 1)
        self.address = said.decode().split()[2]

    def close(self) -> None:
        """Close the terminal, as its window does."""
        os.close(self._ours)
        self._ours = -1

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._ours >= 0:
            self.close()


@contextlib.contextmanager
def in_terminal(how: str, *arguments: str) -> Iterator[InTerminal]:
    program = InTerminal(how, *arguments)
    try:
        yield program
    finally:
        program.end()


@pytest.mark.parametrize("engine", ["pure-epoll", "pure-process"])
def test_a_command_ends_with_its_terminal(engine: str) -> None:
    with in_terminal("", "echo", "0", "--engine", engine, "--drain-timeout", "600") as echo:
        with Peer(echo.address) as peer:
            peer.send(b"x")
            assert peer.read(1) == b"x"
            echo.close()
            peer.send(b"y")  # as at a SIGTERM, clients may finish
            assert peer.read(1) == b"y"
        assert echo.process.wait(DEADLINE) == 0


def test_a_hangup_with_the_terminal_still_there_is_a_reload() -> None:
    with in_terminal("", "echo", "0") as echo, Peer(echo.address) as peer:
        for _ in range(3):
            echo.process.send_signal(signal.SIGHUP)
            peer.send(b"x")
            assert peer.read(1) == b"x"


def test_nohup_outlives_the_terminal() -> None:
    with in_terminal("nohup", "echo", "0") as echo:
        echo.close()
        Peer.play(echo.address, "send 10; read 10; shutdown-write; read-eof; close")
        echo.process.send_signal(signal.SIGTERM)
        assert echo.process.wait(DEADLINE) == 0
