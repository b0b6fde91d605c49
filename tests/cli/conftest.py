"""The command line as a script meets it: a program with output, signals and an exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muxcore.testing.peer import DEADLINE

_ROOT = Path(__file__).parents[2]

# Output into a pipe is buffered, as it is where people run it: what is not flushed does not arrive.
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": ""}


class Command:
    """A running command that serves.

    Attributes:
        said: the lines that it printed up to now.
    """

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "muxcore", *arguments],
            env=_ENVIRONMENT,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Return the next line that it prints, or "" if it ended."""
        assert self.process.stdout is not None
        self.said.append(self.process.stdout.readline().rstrip("\n"))
        return self.said[-1]

    @property
    def address(self) -> str:
        """Where it listens: the first line says so."""
        first = self.said[0] if self.said else self.line()
        assert first.startswith("listening on "), first + self.complaint()
        return first.split()[2]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait for its end and return its exit status; what was left to say is in ``said``."""
        rest, self._complaint = self.process.communicate(timeout=DEADLINE)
        self.said += rest.splitlines()
        return self.process.returncode

    def complaint(self) -> str:
        """Return what it printed to stderr until its end."""
        if self.process.returncode is None:
            self.status()
        return self._complaint

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    """What starts a command, which ends with the test at the latest."""
    started: list[Command] = []

    def start(*arguments: str, cwd: Path | None = None) -> Command:
        started.append(Command(*arguments, cwd=cwd))
        return started[-1]

    yield start
    for each in started:
        each.kill()
