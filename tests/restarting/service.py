"""A program that serves, with whoever takes over from it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
from pathlib import Path

from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive

_ROOT = Path(__file__).parents[2]

# What it serves is what stands in its folder when it starts: so a new one is another program.
PROGRAM = """
import json, logging, os, sys, time
from pathlib import Path

import muxcore

TOLD = json.loads(Path("told.json").read_text())

if TOLD["fails"] == "at import":
    raise RuntimeError("it is broken")
if TOLD["fails"] == "by an exit":
    os._exit(3)
if TOLD["fails"] == "never ready":
    time.sleep(600)  # it never serves, until it is ended


class Greets:
    def connection_made(self, transport):
        self.transport = transport
        transport.write(f"{TOLD['version']} {os.getpid()} {os.getppid()}\\n".encode())

    def data_received(self, data):
        self.transport.write(data)


def announce(server):
    print("listening on", *server.addresses, os.getpid(), flush=True)


def log():
    logging.basicConfig(format="%(message)s", level=logging.INFO)


if __name__ == "__main__":
    log()
    limits = muxcore.Limits(**TOLD["limits"])
    where, options = TOLD["where"], TOLD["options"]
    if "workers" in options:
        options["worker_setup"] = log
    sys.exit(muxcore.serve(Greets, *where, limits=limits, on_ready=announce, **options))
"""


class Service:
    """The program, with all its successors.

    Attributes:
        addresses: where it listens, as the last one of them has said.
        pid: of the last one.
    """

    def __init__(self, folder: Path, command: list[str]) -> None:
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self._said = b""
        self.pid = self.process.pid
        self.addresses: list[str] = []

    def serves(self) -> int:
        """Wait until the next one serves; return its pid."""
        eventually(self._has_line, lambda: f"nobody says that it serves:\n{self.log()}")
        first, _, self._said = self._said.partition(b"\n")
        line = first.decode()
        assert line.startswith("listening on "), line + self.log()
        *self.addresses, pid = re.split("[ ,()]+", line.removeprefix("listening on ").strip(" )"))
        self.pid = int(pid)
        return self.pid

    def _has_line(self) -> bool:
        assert self.process.stdout is not None
        if b"\n" not in self._said and select.select([self.process.stdout], [], [], 0.05)[0]:
            self._said += self.process.stdout.read(4096)
        return b"\n" in self._said

    def log(self) -> str:
        return self._log.read_text()

    def says(self, text: str) -> None:
        """Wait until it has logged something."""
        eventually(lambda: re.search(text, self.log()), lambda: f"no {text!r} in:\n{self.log()}")

    def restart(self) -> int:
        """Have another one take over; return its pid."""
        before = self.pid
        os.kill(before, signal.SIGUSR2)
        self.serves()
        self.says(f"process {self.pid} has taken over")
        assert self.pid != before
        return self.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the last one, and wait until nobody is left."""
        os.kill(self.pid, number)
        eventually(lambda: ended(self.pid), lambda: f"it goes on:\n{self.log()}")
        assert self.process.wait(30) == 0, self.log()


def ended(pid: int) -> bool:
    """Whether a process has ended, ours included: those whose parents have ended are our own."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not alive(pid)


def greeting(peer: Peer) -> tuple[str, int, int]:
    """Return what a client is told: the version, the pid, and the pid of its parent."""
    version, pid, parent = peer.read_line().split()
    return version.decode(), int(pid), int(parent)


def asked(where: str) -> tuple[str, int, int]:
    with Peer(where) as peer:
        return greeting(peer)
