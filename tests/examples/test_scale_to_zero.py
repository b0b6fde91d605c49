"""The program that runs only while somebody uses it; it is one of the tests' own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muxcore.testing import Peer
from muxcore.testing.suite import eventually

from .conftest import Running

EXAMPLE = "scale_to_zero"
REQUIRES = frozenset({"connect", "guest", "relay"})

# It waits for a word by the pipe, if there is one; listens; and tells each client who it is.
_PROGRAM = """\
import os, signal, sys
import muxcore

class Program:
    def connection_made(self, transport):
        transport.write(b"%d\\n" % os.getpid())
        transport.echo()

where, pipe, stubborn = sys.argv[1:]
if os.path.exists(pipe):
    open(pipe).read()
with muxcore.Server(Program, where, engine="pure-select"):
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
"""

LONG = ("--idle", "999", "--grace", "999")  # however slow this machine is
SHORT = ("--idle", "0.05", "--grace", "999")

Start = Callable[..., Running]


@pytest.fixture
def start(start_example: Start, tmp_path: Path) -> Iterator[Start]:
    """Start the example with a program of ours, which is to end with it; see ``_PROGRAM``."""
    started: list[Running] = []

    def start(*options: str, stubborn: bool = False) -> Running:
        where = f"unix:{tmp_path}/s"
        command = [sys.executable, "-c", _PROGRAM, where, f"{tmp_path}/pipe", "x" * stubborn]
        started.append(start_example(EXAMPLE, *options, where, "--", *command))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            assert each.end() == 0


def process_of(client: Peer) -> Path:
    """Return the folder of the process at the far end; it is there until that is reaped."""
    return Path("/proc", client.read_line().decode().strip())


def children_of(pid: int) -> list[Path]:
    """Return the folders of a process's children, whichever of its threads started them."""
    lists = Path("/proc", str(pid), "task").glob("*/children")
    return [Path("/proc", child) for each in lists for child in each.read_text().split()]


def listens(address: str) -> bool:
    try:
        Peer(address).close()
    except ConnectionError:  # refused; or reset, as it closed just now
        return False
    return True


def until_gone(process: Path) -> None:
    eventually(lambda: not process.exists(), f"{process} is still there")


def test_the_first_client_starts_it_and_further_ones_share_it(start: Start) -> None:
    address = start(*LONG).address
    with Peer(address) as first, Peer(address) as second:
        processes = {process_of(first), process_of(second)}
        first.send(b"hello")
        assert first.read(5) == b"hello"
        with Peer(address) as third:
            processes.add(process_of(third))
    assert len(processes) == 1


def test_who_comes_before_it_listens_is_held_and_loses_nothing(
    start: Start, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    address = start(*LONG).address
    with Peer(address) as first, Peer(address) as second:
        first.send(b"first")
        second.send(b"second")
        second.shutdown_write()
        with open(tmp_path / "pipe", "w"):  # which waits until the program has opened it
            pass
        assert process_of(first) == process_of(second)
        assert first.read(5) == b"first"
        assert second.read_all() == b"second"


def test_it_is_stopped_when_nobody_has_used_it_for_a_while_and_started_again(start: Start) -> None:
    address = start(*SHORT).address
    for _ in range(3):
        with Peer(address) as client:
            process = process_of(client)
            client.send(b"hello")
            assert client.read(5) == b"hello"
        until_gone(process)


def test_one_that_has_crashed_is_started_again(start: Start, tmp_path: Path) -> None:
    address = start(*LONG).address
    with Peer(address) as client:
        process = process_of(client)
        os.kill(int(process.name), signal.SIGKILL)
        client.read_end()
    until_gone(process)
    (tmp_path / "s").unlink()  # what a killed one leaves behind
    later: list[bytes] = []

    def is_back() -> bool:  # not for who comes before its end is noticed
        with Peer(address) as client:
            client.shutdown_write()
            later.append(client.read_all())
        return bool(later[-1])

    eventually(is_back, "it was not started again")
    assert later[-1] != f"{process.name}\n".encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_example_ends(start: Start, number: signal.Signals) -> None:
    program = start(*LONG)
    with Peer(program.address) as client:
        process = process_of(client)
    program.line_with("bytes up")
    assert program.end(number) == 0
    assert not process.exists()


@pytest.mark.parametrize("is_there", [True, False], ids=["used", "starting"])
def test_nothing_is_left_when_the_example_is_not_to_wait_for_its_clients(
    start: Start, is_there: bool, tmp_path: Path
) -> None:
    if not is_there:
        os.mkfifo(tmp_path / "pipe")
    program = start(*LONG)
    with Peer(program.address) as client:
        program.line_with("starting")
        if is_there:
            process_of(client)
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(program.address), "it still takes clients")
        children = children_of(program.process.pid)
        assert children
        assert program.end() == 0  # a second signal does not wait
        client.read_end()
    assert not any(child.exists() for child in children)


def test_one_that_does_not_end_is_killed(start: Start) -> None:
    program = start("--idle", "999", "--grace", "0.05", stubborn=True)
    with Peer(program.address) as client:
        process = process_of(client)
    assert program.end() == 0
    assert not process.exists()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ([sys.executable, "-c", "raise SystemExit(7)"], "ended with status 7 at once"),
        (["/nowhere/program"], "No such file or directory"),
    ],
    ids=["it ends", "it is not there"],
)
def test_a_start_that_fails_is_told_and_the_client_is_closed(
    command: list[str], why: str, start_example: Start, tmp_path: Path
) -> None:
    program = start_example(
        EXAMPLE, *LONG, f"unix:{tmp_path}/s", "--", *command, stderr=subprocess.PIPE
    )
    for _ in range(2):  # the next one's is a start of its own
        with Peer(program.address) as client:
            assert client.read_all() == b""
            host, port = client.name
    assert program.end() == 0
    assert program.process.stderr is not None
    complaints = program.process.stderr.read()
    assert len(re.findall(re.escape(why), complaints)) == 2
    assert f"{host}:{port}: " in complaints
    assert "Traceback" not in complaints
