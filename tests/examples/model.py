"""A page of examples/models as a program: as its reader runs it, or with a part of it replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE, SMALL
from muxcore.testing.proc import children, ran_seconds, state
from muxcore.testing.suite import eventually

FOLDER = Path(__file__).parents[2] / "examples" / "models"
PAGES = ("process", "select", "epoll")
MODELS = (*PAGES, "epoll --edge")
READY = ("select", "epoll", "epoll --edge")  # one process, which asks who is ready

# What a student does who speaks another protocol: the page as a module, and a Server of its own.
_DRIVER = """
import importlib.util, os, resource, socket, sys
spec = importlib.util.spec_from_file_location("page", sys.argv[1])
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)
listener = page.listen("127.0.0.1:0")
Handler = page.Echo
{changes}
server = page.Server(listener, Handler{options})
print(f"listening on 127.0.0.1:{{listener.getsockname()[1]}}", flush=True)
server.serve()
"""

# An accepted socket inherits its listener's SO_SNDBUF, and is not auto-tuned then (tcp(7)).
NARROW = f"listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {SMALL})\n"
PATIENT = "page.DRAIN = 1000\n"


class Model:
    """A running page.

    Attributes:
        address: where it listens.
        pid: of its process, or of the parent.
    """

    def __init__(self, program: subprocess.Popen[bytes], complaints: Path) -> None:
        self._program = program
        self._complaints = complaints
        self._peers: list[Peer] = []
        self.pid = program.pid
        assert program.stdout is not None
        said = program.stdout.readline().decode()
        assert said.startswith("listening on "), f"{said!r}; {self.complaints()}"
        self.address = said.split()[2]

    def connect(self, **options: int) -> Peer:
        peer = Peer(self.address, **options)
        self._peers.append(peer)
        return peer

    def served(self) -> Peer:
        """Return a client that has been served."""
        peer = self.connect()
        peer.send(b"x")
        assert peer.read(1) == b"x"
        return peer

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it find all at once what happens in the block."""
        self.signal(signal.SIGSTOP)
        try:
            eventually(lambda: state(self.pid) == "T", "it is stopped")
            yield
        finally:
            self.signal(signal.SIGCONT)

    def complaints(self) -> str:
        return self._complaints.read_text()

    def complains(self, what: str) -> None:
        """Wait until it has said so."""
        eventually(lambda: what in self.complaints(), lambda: f"{what!r}: {self.complaints()}")

    def processes(self) -> list[int]:
        return [self.pid, *children(self.pid)]

    def ran(self) -> float:
        """Return the seconds that its processes were on a processor."""
        ran = 0.0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child has ended
                ran += ran_seconds(pid)
        return ran

    def memory(self) -> int:
        """Return the bytes of memory that its processes have."""
        return sum(_resident(pid) for pid in self.processes())

    def stops_listening(self) -> None:
        """Wait until nobody new is taken: it has heard of its end."""
        eventually(lambda: not _listens(self.address), "the listener is closed")

    def ends(self) -> None:
        """Expect its end, in order, and nothing of it to be left."""
        left = self.processes()[1:]
        assert self._program.wait(DEADLINE) == 0, self.complaints()
        assert "Exception ignored" not in self.complaints()  # as of a socket that nobody closed
        for pid in left:
            assert not os.path.exists(f"/proc/{pid}"), "a child was not reaped"

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        if self._program.poll() is None:
            self.signal(signal.SIGTERM)
            self.ends()

    def kill(self) -> None:
        if self._program.poll() is None:
            for pid in reversed(self.processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(
    model: str, folder: Path, changes: str | None = None, address: str = "127.0.0.1:0"
) -> Iterator[Model]:
    """Run a page while the block runs; then it ends in order.

    Args:
        model: the page's name, and its options.
        folder: an empty one.
        changes: statements that have the page as ``page``, its ``listener`` and the ``Handler`` to
            replace; without, the page is run as a script.
        address: where it listens as a script.
    """
    name, *options = model.split()
    page = str(FOLDER / f"{name}.py")
    command = [sys.executable, "-W", "error"]
    if changes is None:
        command += [page, address, *options]
    else:
        flags = "".join(f", {option[2:]}=True" for option in options)
        command += ["-c", _DRIVER.format(changes=changes, options=flags), page]
    complaints = folder / "stderr"
    with complaints.open("wb") as stderr:
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    with program:
        found = None
        try:
            found = Model(program, complaints)
            yield found
            found.close()
        finally:
            if found is not None:
                found.kill()
            program.kill()


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


Start = Callable[..., AbstractContextManager[Model]]
