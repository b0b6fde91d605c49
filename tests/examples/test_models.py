"""The models on one page each: what the tutorial's servers get wrong, these get right."""

from __future__ import annotations

import ast
import difflib
import random
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from muxcore.testing.peer import DEADLINE, SMALL, pattern
from muxcore.testing.proc import children, descriptors
from muxcore.testing.suite import eventually, meanwhile
from muxcore.testing.survival.clients import idle_cpu

from .model import FOLDER, NARROW, PAGES, READY, Start, running

MUCH = 200_000  # bytes; more than a narrow connection holds, less than what may be queued
VERY_MUCH = 64 << 20  # bytes; more than any kernel holds for one connection
PIECE = 65_536

one_process = pytest.mark.parametrize("model", READY, indirect=True)


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
