"""A server whose output nobody reads serves on, ends when it is told to, and says what was lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import muxcore
from muxcore.cli import _output
from muxcore.testing import DEADLINE, Peer, eventually
from tests.usual import usual

_ROOT = Path(__file__).parents[2]
_ENGINES = [info.name for info in muxcore.engines() if info.available]
_SMALL = 4096  # bytes that the pipe holds; lines of two connections have about 100
_CLIENTS = 120

_FAULTY = """
class Faulty:
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
        self.transport.close()
    def connection_lost(self, exc):
        raise RuntimeError("x" * 500)
"""


class Server:
    """A command that serves, whose output and errors are pipes of ours; nobody reads them."""

    def __init__(self, *arguments: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "muxcore", *arguments],
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out: IO[str] = self.process.stdout
        self.errors: IO[str] = self.process.stderr
        for pipe in (self.out, self.errors):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _SMALL)
        self.address = self.out.readline().split()[2]

    def serve(self, clients: int = _CLIENTS) -> int:
        """Return how many clients got their answer."""
        served = 0
        for _ in range(clients):
            with contextlib.suppress(OSError), Peer(self.address) as peer:
                peer.send(b"hello")
                served += peer.read(5) == b"hello"
        return served

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.out.close()
        self.errors.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*arguments: str, cwd: Path | None = None) -> Server:
        started.append(Server(*arguments, cwd=cwd))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def lost(complaint: str) -> int:
    """Return how many lines were told to be lost."""
    return sum(
        map(int, re.findall(r"muxcore: (\d+) lines of standard output were lost", complaint))
    )


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_lines_that_nobody_reads_stop_neither_the_serving_nor_the_end(
    server: Callable[..., Server], engine: str
) -> None:
    echo = server("echo", "0", "-v", "--engine", engine)
    assert echo.serve() == _CLIENTS
    assert echo.end() == 0
    lines = echo.out.read().splitlines()
    assert all(re.match(r"[+-] 127\.0\.0\.1:\d+ ", line) for line in lines)  # none is torn
    assert lines
    assert len(lines) + lost(echo.errors.read()) == 2 * _CLIENTS


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_an_access_log_that_nobody_reads_stops_neither_the_relay_nor_its_end(
    server: Callable[..., Server], engine: str
) -> None:
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="pure-epoll") as upstream:
        relay = server(
            "relay", "0", upstream.addresses[0], "--access-log", "json", "--engine", engine
        )
        with Peer(relay.address) as early:
            early.send(b"first")
            assert early.read(5) == b"first"
            assert relay.serve() == _CLIENTS
            early.send(b"later")  # who was joined before goes on, too
            assert early.read(5) == b"later"
        assert relay.end() == 0
        lines = relay.out.read().splitlines()
    assert all(line.startswith('{"time": ') and line.endswith("}") for line in lines)
    assert len(lines) + lost(relay.errors.read()) == _CLIENTS + 1


@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_a_reader_that_goes_away_takes_nobody_with_it(
    server: Callable[..., Server], engine: str
) -> None:
    echo = server("echo", "0", "-v", "--engine", engine)
    echo.out.close()
    assert echo.serve(20) == 20
    assert echo.end() == 0
    assert lost(echo.errors.read()) == 40


def test_a_log_that_nobody_reads_stops_neither_the_serving_nor_the_end(
    server: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "faulty.py").write_text(_FAULTY)
    program = server("serve", "faulty:Faulty", "0", cwd=tmp_path)
    assert program.serve(50) == 50
    assert program.end() == 0
    assert "Faulty.connection_lost failed" in program.errors.read()


def test_what_was_lost_is_told_as_soon_as_it_is_read_again(server: Callable[..., Server]) -> None:
    echo = server("echo", "0", "-v")
    assert echo.serve() == _CLIENTS
    os.set_blocking(echo.out.fileno(), False)
    os.read(echo.out.fileno(), 2 * _SMALL)
    assert echo.serve(1) == 1
    assert lost(echo.errors.readline()) > 0
    assert echo.end() == 0


def _is_served(where: Path) -> bool:
    """Be a client, where somebody listens already: bind(2), which makes the file, comes before."""
    try:
        Peer.play(f"unix:{where}", "send 10; read 10; shutdown-write; read-eof; close")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _started(where: Path, stdout: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "muxcore", "echo", f"unix:{where}", "-v"],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def _complaint(program: subprocess.Popen[Any], where: Path, clients: int) -> Any:
    """Be some clients, then end the program; return what it said on standard error."""
    try:
        for _ in range(clients):
            eventually(lambda: _is_served(where), "nobody listens")
        program.send_signal(signal.SIGTERM)
        _, complaint = program.communicate(timeout=DEADLINE)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 0
    return complaint


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    where = tmp_path / "s"
    with open("/dev/full", "w") as full:
        program = _started(where, full)
    assert _complaint(program, where, 20) == (
        "muxcore: 41 lines of standard output were lost: No space left on device\n"
    )


def test_a_terminal_that_is_stopped_stops_nobody(tmp_path: Path) -> None:
    where = tmp_path / "s"
    terminal, ours = os.openpty()
    termios.tcflow(ours, termios.TCOOFF)  # what Ctrl-S does
    try:
        complaint = _complaint(_started(where, ours), where, 20)
    finally:
        os.close(terminal)
        os.close(ours)
    assert lost(complaint) == 41


def test_a_command_whose_output_is_closed_is_no_traceback() -> None:
    command = f"exec {sys.executable} -m muxcore engines >&-"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stderr=subprocess.PIPE,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_any_standard_descriptor_clients_get_their_own_bytes_only(tmp_path: Path) -> None:
    where = tmp_path / "s"
    command = f"exec {sys.executable} -m muxcore echo unix:{where} -vv 0>&- 1>&- 2>&-"
    program = subprocess.Popen(
        ["/bin/sh", "-c", command], env=os.environ | {"PYTHONPATH": str(_ROOT)}
    )
    assert _complaint(program, where, 5) is None


def test_output_that_cannot_be_written_is_no_traceback() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "muxcore", "engines"],
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "muxcore: the output cannot be written: No space left on device\n"


# -- the sink itself


def pipe(size: int = _SMALL) -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    return reader, writer


@pytest.fixture(params=["opened anew", "asked before"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways not to wait: the second is for systems without /proc."""
    if request.param == "asked before":

        def refused(path: Any, *_: Any) -> int:
            raise FileNotFoundError(path)

        monkeypatch.setattr(_output.os, "open", refused)


@pytest.mark.usefixtures("way")
def test_the_descriptor_that_others_share_stays_as_it_is() -> None:
    reader, writer = pipe()
    with contextlib.closing(_output._Output(writer, "it", None)) as output:
        for _ in range(100):
            output.write(b"x" * 99 + b"\n")
        assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
    assert os.fstat(writer)  # it is its owner's to close
    os.close(reader)
    os.close(writer)


@pytest.mark.usefixtures("way")
def test_a_line_longer_than_the_room_is_ended_before_the_next_one_begins() -> None:
    size = 4 * _SMALL  # pages: poll() calls a pipe ready while one of them is empty
    reader, writer = pipe(size)
    with contextlib.closing(_output._Output(writer, "it", None)) as output:
        long = b"y" * (2 * size) + b"\n"
        output.write(long)
        output.write(b"lost\n")
        got = os.read(reader, size)
        output.write(b"lost again\n")
        got += os.read(reader, size)
        output.write(b"kept\n")
        while select.select([reader], [], [], 0)[0]:
            got += os.read(reader, size)
    assert got == long + b"kept\nmuxcore: 2 lines of it were lost: nobody read them\n"
    os.close(reader)
    os.close(writer)


@pytest.mark.usefixtures("way")
def test_a_line_that_could_not_be_ended_is_told_to_be_lost() -> None:
    reader, writer = pipe()
    errors, told = pipe()
    with (
        contextlib.closing(_output._Output(told, "its errors", None)) as complaints,
        contextlib.closing(_output._Output(writer, "it", complaints)) as output,
    ):
        output.write(b"y" * (2 * _SMALL) + b"\n")
        output.finish()
        assert os.read(errors, _SMALL) == b"muxcore: 1 lines of it were lost: nobody read them\n"
    for descriptor in (reader, writer, errors, told):
        os.close(descriptor)


def test_a_socket_is_never_waited_for_either() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(_output._Output(ours.fileno(), "it", None)) as output:
        for _ in range(100_000):
            output.write(b"z" * 99 + b"\n")
        assert ours.getblocking()
        assert theirs.recv(100) == b"z" * 99 + b"\n"


def test_what_forked_processes_lose_is_counted_together() -> None:
    reader, writer = pipe()
    with contextlib.closing(_output._Output(writer, "it", None)) as output:
        output.write(b"x" * (_SMALL - 1) + b"\n")
        children = []
        for _ in range(3):
            children.append(os.fork())
            if not children[-1]:
                output.write(b"one\ntwo\n")
                os._exit(0)
        for child in children:
            os.waitpid(child, 0)
        os.read(reader, _SMALL)
        output.report()
        assert os.read(reader, _SMALL).startswith(b"muxcore: 6 lines of it were lost: ")
    os.close(reader)
    os.close(writer)
