"""The models on one page each: what the tutorial's servers get wrong, these get right."""

from __future__ import annotations

import ast
import difflib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from muxcore.testing.peer import DEADLINE, SMALL, Peer, pattern
from muxcore.testing.proc import children, descriptors
from muxcore.testing.suite import eventually, meanwhile
from muxcore.testing.survival.clients import idle_cpu

from .model import FOLDER, MODELS, NARROW, PAGES, PATIENT, READY, Model, running

Start = Callable[..., AbstractContextManager[Model]]

MUCH = 200_000  # bytes; more than a narrow connection holds, less than what may be queued
VERY_MUCH = 64 << 20  # bytes; more than any kernel holds for one connection
PIECE = 65_536

# A long answer to a question, and to nothing else; four bytes of it tell where they stand.
LONG_ANSWER = f"""
import struct
class Handler(page.Echo):
    def received(self, data):
        if data != b"a question":
            return b""
        return struct.pack(">{MUCH // 4}I", *range({MUCH // 4}))
"""

one_process = pytest.mark.parametrize("model", READY, indirect=True)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(model: str, tmp_path: Path) -> Start:
    """What runs the model."""
    return partial(running, model, tmp_path)


# -- the pages


def functions(page: str) -> list[str]:
    """Return the names of all functions and classes, in order."""
    tree = ast.parse((FOLDER / f"{page}.py").read_text())
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [node.name for node in sorted(found, key=lambda node: node.lineno)]


def test_the_pages_have_the_same_functions_in_the_same_order() -> None:
    assert functions("process") == functions("select") == functions("epoll")


def test_a_diff_of_select_and_epoll_is_short() -> None:
    one, other = ((FOLDER / f"{page}.py").read_text().splitlines() for page in ("select", "epoll"))
    told = len([line for line in difflib.ndiff(one, other) if line[0] in "-+"])
    assert told < (len(one) + len(other)) / 5


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_the_standard_library_and_nothing_else(page: str) -> None:
    names = set()
    for node in ast.walk(ast.parse((FOLDER / f"{page}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).partition(".")[0])
    assert names
    assert names <= sys.stdlib_module_names


def test_a_page_runs_in_its_own_folder_where_select_is_a_page_too(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    with running(model, tmp_path) as program:
        program.served()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("address", ["taken", "127.0.0.1:70000", "127.0.0.1:http", "192.0.2.1:0"])
def test_what_it_cannot_listen_on_is_told_in_a_sentence(page: str, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if address == "taken":
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, str(FOLDER / f"{page}.py"), address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{page}.py: cannot listen on {address}: ")
    assert "Traceback" not in done.stderr


def test_a_bare_port_is_this_machines_alone(start: Start) -> None:
    with start(address="0") as program:
        assert program.address.startswith("127.0.0.1:")
        program.served()


def test_it_serves_ipv6(start: Start) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as exc:
        pytest.skip(f"this system has no IPv6 loopback: {exc}")
    with start(address="[::1]:0") as program:
        program.served()


def test_another_protocol_takes_the_place_of_echo(start: Start) -> None:
    lines = """
class Handler(page.Echo):
    line = b""
    def received(self, data):
        *lines, self.line = (self.line + data).split(b"\\n") if data else (self.line, b"")
        return b"".join(line.upper() + b"\\n" for line in lines)
"""
    with start(lines) as program:
        peer = program.connect()
        for byte in b"one\ntwo":
            peer.send(bytes([byte]))
        assert peer.read_line() == b"ONE\n"
        peer.shutdown_write()
        assert peer.read_all() == b"TWO\n"


# -- bytes


def test_bytes_come_back_one_by_one(start: Start) -> None:
    with start() as program:
        peer = program.connect()
        for byte in random.Random(1).randbytes(300):
            peer.send(bytes([byte]))
            assert peer.read(1) == bytes([byte])
        peer.shutdown_write()
        peer.read_eof()


def test_bytes_that_were_sent_at_once_all_come_back_in_order(start: Start) -> None:
    with start(NARROW) as program:
        for size in (5_000, 3 * PIECE, 40 * PIECE):
            peer = program.connect()
            with meanwhile(partial(peer.send, size)):
                peer.read_pattern(size)


def test_clients_that_come_at_once_are_all_served(start: Start) -> None:
    with start() as program:
        with program.stopped():
            peers = [program.connect() for _ in range(20)]
        for peer in peers:
            peer.send(b"x")
        for peer in peers:
            assert peer.read(1) == b"x"


def test_one_who_does_not_read_costs_neither_memory_nor_time_nor_bytes(start: Start) -> None:
    with start() as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(4)
        peer.read_pattern(4)
        before = program.memory()
        taken = peer.send_until_full(VERY_MUCH)
        assert taken < VERY_MUCH
        assert program.memory() - before < 4 << 20
        idle_cpu(program.ran)
        program.served()
        assert peer.read(taken) == bytes(taken)
        peer.send(4)
        assert peer.read(4) == pattern(4, 4)


def test_an_eof_is_answered_after_the_last_byte(start: Start) -> None:
    with start(NARROW) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(MUCH)
        peer.shutdown_write()
        program.served()
        peer.read_pattern(MUCH)
        peer.read_eof()


def test_a_reset_is_the_end_of_one_client_and_leaves_nothing(start: Start) -> None:
    with start(NARROW) as program:
        before = len(descriptors(program.pid))
        for _ in range(3):
            peer = program.connect(receive_buffer=SMALL)
            peer.send(MUCH)
            peer.read(1)
            peer.reset()
            program.connect().reset()
            program.served().reset()
        eventually(lambda: not children(program.pid), "no child is left")
        eventually(lambda: len(descriptors(program.pid)) == before, "no descriptor is left")
        assert program.complaints() == ""


@pytest.mark.parametrize("fault", ["1 / 0", "5", "None"])
def test_a_handlers_fault_ends_its_client_and_no_other(start: Start, fault: str) -> None:
    faulty = f"""
class Handler(page.Echo):
    def received(self, data):
        return {fault} if data == b"!" else data
"""
    with start(faulty) as program:
        other, peer = program.served(), program.connect()
        peer.send(b"!")
        peer.read_end()
        other.send(b"x")
        assert other.read(1) == b"x"
        program.complains("Error: ")


@one_process
def test_a_flood_does_not_starve_the_others(start: Start) -> None:
    """Two have sent a lot before the server looks: how often does it hear one of them in a row?"""
    counting = """
page.CHUNK = 1
last, row, longest = None, 0, 0
class Handler(page.Echo):
    def received(self, data):
        global last, row, longest
        last, row = self, row + 1 if self is last else 1
        longest = max(longest, row)
        return b"%d\\n" % longest if data == b"?" else b""
"""
    with start(counting) as program:
        peers = [program.connect() for _ in range(2)]
        for peer in peers:
            peer.send(b"?")
            peer.read_line()
        with program.stopped():
            for peer in peers:
                peer.send(b"x" * 1_000 + b"?")
        for peer in peers:  # and it comes back to the rest by itself: nothing more is sent
            assert int(peer.read_line()) <= 3  # one a turn, in any order


# -- the end


def test_a_signal_wakes_one_that_sleeps(start: Start) -> None:
    with start(PATIENT) as program:
        peer = program.served()
        program.signal(signal.SIGTERM)
        peer.read_eof()
        peer.close()
        program.ends()


@pytest.mark.parametrize(
    ("number", "changes"),
    [(signal.SIGTERM, NARROW), (signal.SIGINT, "")],
    ids=["queued by us", "queued by the kernel"],
)
def test_a_signal_ends_it_once_what_is_queued_was_sent(
    start: Start, number: signal.Signals, changes: str
) -> None:
    """Also where more comes in: a close would answer that by a reset, and all would be lost."""
    with start(changes + PATIENT + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        assert peer.read(1_000) == pattern(1_000)
        program.signal(number)
        program.stops_listening()
        for start_at in range(1_000, 4_000, 1_000):
            peer.send(b"no question")
            assert peer.read(1_000) == pattern(1_000, start_at)
        assert peer.read(MUCH - 4_000) == pattern(MUCH - 4_000, 4_000)
        peer.read_eof()
        peer.close()
        program.ends()


def test_the_end_waits_for_nobody_longer_than_its_deadline(start: Start) -> None:
    with start(NARROW + "page.DRAIN = 0.2\n" + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.ends()


def test_the_deadline_may_pass_between_two_looks_at_the_clock(start: Start) -> None:
    ticking = """
page.DRAIN = 1.5
class Ticking:
    now = 0.0
    @classmethod
    def monotonic(cls):
        cls.now += 1
        return cls.now
page.time = Ticking
"""
    with start(NARROW + ticking + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.ends()


def test_a_second_signal_cuts_the_end_short(start: Start) -> None:
    with start(NARROW + PATIENT + LONG_ANSWER) as program:
        peer = program.connect(receive_buffer=SMALL)
        peer.send(b"a question")
        peer.read(1)
        program.signal(signal.SIGTERM)
        program.stops_listening()
        idle_cpu(program.ran)
        program.signal(signal.SIGTERM)
        program.ends()


# -- want


def test_without_descriptors_nobody_is_lost_and_nothing_spins(start: Start) -> None:
    with start() as program:
        early = program.served()
        soft, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
        begun = time.monotonic()
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (3, hard))
        late = program.connect()
        late.send(b"x")
        program.complains("accept failed")
        idle_cpu(program.ran)
        early.send(b"x")
        assert early.read(1) == b"x"
        tried = program.complaints().count("accept failed")
        assert tried <= (time.monotonic() - begun) / 0.5 + 1
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert late.read(1) == b"x"


def test_a_client_that_has_gone_before_it_was_accepted_holds_up_nobody(start: Start) -> None:
    gone = """
import errno
real, failures = socket.socket.accept, [errno.ECONNABORTED, errno.EAGAIN]
def accept(self):
    if failures:
        raise OSError(failures.pop(), "it has gone")
    return real(self)
socket.socket.accept = accept
"""
    with start(gone) as program:
        program.served()
        assert program.complaints() == ""


def test_a_descriptor_that_select_cannot_watch_is_refused_by_name(start: Start, model: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 1_100:
        pytest.skip(f"1,100 descriptors are needed, `ulimit -Hn` is {hard}")
    crowded = """
resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
def fill():
    while os.open("/dev/null", os.O_RDONLY) < 1_010:
        pass
"""
    later = "Server = page.Server\ndef server(*args, **named):\n    made = Server(*args, **named)\n"
    later += "    fill()\n    return made\npage.Server = server\n"
    with start(crowded + later) as program:
        peers = [program.connect() for _ in range(30)]
        for peer in peers:
            peer.sock.sendall(b"x")
        served = [peer for peer in peers if is_served(peer)]
        for peer in served:
            peer.send(b"still")
            assert peer.read(5) == b"still"
        if model == "select":
            assert 0 < len(served) < len(peers)
            assert "FD_SETSIZE=1024" in program.complaints()
        else:
            assert served == peers


def is_served(peer: Peer) -> bool:
    """Wait for an answer or the end, and return which of them came."""
    try:
        return peer.sock.recv(1) == b"x"
    except ConnectionError:
        return False


def test_an_idle_server_sleeps(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(3)]
        idle_cpu(program.ran)
        for peer in peers:
            peer.send(b"x")
            assert peer.read(1) == b"x"


# -- children


@pytest.mark.parametrize("model", ["process"], indirect=True)
def test_children_are_reaped_also_those_that_were_killed(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(6)]
        for pid in children(program.pid)[:3]:
            os.kill(pid, signal.SIGKILL)
        for peer in peers:
            peer.close()
        eventually(lambda: not children(program.pid), "no child is left, and no zombie")
        idle_cpu(program.ran)
        program.served()


@pytest.mark.parametrize("model", ["process"], indirect=True)
def test_a_child_has_its_own_socket_and_nobody_elses(start: Start) -> None:
    with start() as program:
        peers = [program.served() for _ in range(4)]
        processes = program.processes()
        assert len(processes) == 1 + len(peers)
        # one each, and its waker's two; the parent may not have closed its copy of the last yet
        eventually(lambda: len(sockets(program.pid)) == 3, "the parent has its listener")
        owned = [sockets(pid) for pid in processes]
        assert [len(each) for each in owned] == [3] * len(owned)
        assert len(set().union(*owned)) == 3 * len(owned)


def sockets(pid: int) -> set[str]:
    return {name for name in descriptors(pid) if name.startswith("socket:")}
