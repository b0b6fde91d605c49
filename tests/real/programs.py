"""A program of somebody else's as a process of its own, and ``muxcore relay`` as one."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing.peer import DEADLINE
from muxcore.testing.suite import eventually

_ROOT = Path(__file__).parents[2]

# Debian's packages, where they have not the program's name.
_PACKAGES = {
    **dict.fromkeys("initdb pg_dump pg_isready pgbench postgres psql".split(), "postgresql"),
    **dict.fromkeys(("redis-benchmark", "redis-cli"), "redis-tools"),
    **dict.fromkeys(("systemd-analyze", "systemd-socket-activate"), "systemd"),
}

# Debian has PostgreSQL's programs in a folder for each version, and none of them on the path.
_PLACES = os.pathsep.join(
    [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), os.environ["PATH"], "/usr/sbin"]
)


def find(program: str) -> str:
    """Return where a program is; a test that needs one that is not there is skipped."""
    found = shutil.which(program, path=_PLACES)
    if found is None:
        package = _PACKAGES.get(program, program)
        pytest.skip(f"{program} is not installed (Debian and Ubuntu: apt-get install {package})")
    return found


def environment() -> dict[str, str]:
    """Return what the programs get: messages in English, and no wishes of this user's."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REDIS", "LC_", "LANG"))}
    return mine | {"LC_ALL": "C", "PYTHONPATH": str(_ROOT), "NO_PROXY": "*", "no_proxy": "*"}


class Program:
    """A program that runs.

    Attributes:
        process: its process.
        output: the file that it prints to.
        complaints: the file that it complains to.
    """

    def __init__(self, command: list[str], folder: Path, **options: Any) -> None:
        self.output, self.complaints = folder / "stdout", folder / "stderr"
        with self.output.open("wb") as stdout, self.complaints.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                **options,
            )

    def said(self) -> str:
        return self.output.read_text() + self.complaints.read_text()

    def until(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready.

        Raises:
            ProcessLookupError: it ended instead.
        """

        def ready_or_gone() -> bool:
            return ready() or self.process.poll() is not None

        eventually(ready_or_gone, lambda: f"{self.process.args} does not serve:\n{self.said()}")
        if self.process.returncode is not None:
            raise ProcessLookupError(f"{self.process.args} ended at once:\n{self.said()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status; the second time, return that again."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a stopped one hears nothing
            self.process.send_signal(number)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class RelayProgram(Program):
    """``muxcore relay``, with its access log as JSON in its output, or without one."""

    def __init__(self, folder: Path, engine: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "muxcore", "relay", "127.0.0.1:0", *arguments]
        super().__init__([*command, "--engine", engine], folder)
        try:
            self.until(lambda: self.output.read_text().endswith("\n"))
        except BaseException:
            self.end()
            raise
        self.address = self.output.read_text().split()[2]

    def records(self) -> list[dict[str, Any]]:
        """Return what its access log says up to now."""
        return [json.loads(line) for line in self.output.read_text().splitlines()[1:]]

    def until_recorded(self, count: int) -> None:
        """Wait until its access log has so many lines."""
        eventually(lambda: len(self.records()) == count, self.said)

    def pids(self) -> list[int]:
        """Return its own number and those of its children, and of theirs."""
        parents = dict(_parents())
        tree = [self.process.pid]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def memory(self) -> int:
        """Return the bytes of memory that it holds now, its children included."""
        return sum(map(_resident, self.pids()))

    def sockets(self) -> int:
        """Return how many sockets it has open, its children's left out."""
        folder = Path("/proc", str(self.process.pid), "fd")
        count = 0
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                count += os.readlink(entry).startswith("socket:")
        return count


def _parents() -> Iterator[tuple[int, int]]:
    """Every process of this machine with its parent."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
            yield int(pid), int(fields[1])


def _resident(pid: int) -> int:
    """Return its bytes of memory; a page that several processes share counts in parts."""
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0  # it ended meanwhile


def serves(server: Program, address: str, ready: str) -> bool:
    if ready:
        return ready in server.said()
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), DEADLINE).close()
    except OSError:
        return False
    return True
