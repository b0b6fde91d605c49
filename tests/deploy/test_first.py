"""The first process of a container: it hears signals, and reaps whom nobody else waits for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from muxcore.parts import first
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive, children, state

from .supervisor import Supervisor, Unit


def _cannot() -> str:
    """Return why there can be no namespace of processes here; "" where there can."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "unshare and nsenter are not installed (apt-get install util-linux)"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True
    )
    return done.stderr.strip()


pytestmark = pytest.mark.skipif(bool(_cannot()), reason=f"no namespace of processes: {_cannot()}")

_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

_APP = """
import subprocess, sys, time

before = subprocess.Popen(["true"])  # at the import: in the parent of workers, too

class Asks:
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        time.sleep(float(data))  # it has ended meanwhile
        self.transport.write(b"%d\\n" % child.wait())
"""


class Container:
    """A command that is the first process of a namespace."""

    def __init__(self, supervisor: Supervisor, *command: str) -> None:
        self.unit: Unit = supervisor.start("-m", "muxcore", *command, wrapper=_UNSHARE)
        ready = supervisor.until_word("READY", "1")
        self.address = ready.words["STATUS"].split()[2].rstrip(",")
        (self.pid,) = children(self.unit.pid)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def status(self) -> int:
        """Return what unshare makes of its status."""
        return self.unit.status()

    def orphan(self) -> None:
        """Leave it a child that ends at once."""
        # sh's own parent is outside, and gone: who outlives it is the first process's
        words = ["nsenter", "-t", str(self.pid), "-p", "-m", "sh", "-c", "sleep 0.1 & exit 0"]
        subprocess.run(words, check=True)

    def zombies(self) -> list[int]:
        return [pid for pid in children(self.pid) if state(pid) == "Z"]


def test_this_process_is_not_the_first() -> None:
    assert not first.is_first()


@pytest.mark.parametrize(
    "command",
    [
        ["echo", "0"],
        pytest.param(["echo", "0", "--engine", "pure-process"], marks=pytest.mark.deep),
        pytest.param(["serve", "app:Asks", "0", "--workers", "1"], marks=pytest.mark.deep),
    ],
    ids=["plain", "process", "workers"],
)
def test_who_has_lost_its_parent_is_waited_for(
    supervisor: Supervisor, folder: Path, command: list[str]
) -> None:
    (folder / "app.py").write_text(_APP)
    container = Container(supervisor, *command)
    if "--workers" in command:  # a worker, and a spare; and what the import has begun
        eventually(lambda: len(children(container.pid)) == 3, "there is no spare")
    before = set(children(container.pid))
    container.orphan()
    eventually(lambda: set(children(container.pid)) <= before, "a zombie is left")
    if "--workers" in command:
        assert len(container.zombies()) == 1  # its program waits for that, or nobody does
        with Peer(container.address) as peer:
            peer.send(b"0.3")
            assert peer.read_line() == b"7\n"
    container.signal(signal.SIGTERM)
    assert container.status() == 0, container.unit.printed()


@pytest.mark.deep
def test_a_process_that_the_service_has_started_is_the_services_to_wait_for(
    supervisor: Supervisor, folder: Path
) -> None:
    (folder / "app.py").write_text(_APP)
    container = Container(supervisor, "serve", "app:Asks", "0")
    with Peer(container.address) as peer:
        peer.send(b"0.3")
        assert peer.read_line() == b"7\n"
    container.signal(signal.SIGTERM)
    assert container.status() == 0
    assert "--workers 1 has a parent that does it" in container.unit.printed()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.deep)]
)
def test_signals_are_heard_and_the_third_ends_it(
    supervisor: Supervisor, folder: Path, number: signal.Signals
) -> None:
    (folder / "stuck.py").write_text(
        "from pathlib import Path\n"
        "class Stuck:\n"
        "    def data_received(self, data):\n"
        "        Path('stuck').touch()\n"
        "        while True: pass\n"
    )
    container = Container(supervisor, "serve", "stuck:Stuck", "0")
    with Peer(container.address) as peer:
        peer.send(b"x")
        eventually((folder / "stuck").exists, "it was not called")

        def again() -> bool:
            with contextlib.suppress(ProcessLookupError):
                container.signal(number)  # two that come as one are one
            return not alive(container.pid)

        eventually(again, "it hears no third signal")
        peer.read_end()
    assert container.status() == 128 + number
