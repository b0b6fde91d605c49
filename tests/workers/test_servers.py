"""``muxcore.Server(workers=)``: in the background of a program, beside its threads."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children
from muxcore.workers.parent import Parent
from tests.workers.engines import each
from tests.workers.services import Fails, Pid, Says, note

_ENGINES = each()


def who(peer: Peer) -> int:
    return int(peer.read_line())


@pytest.mark.parametrize("engine", _ENGINES)
def test_workers_serve_beside_threads_of_the_program(engine: str) -> None:
    waits = threading.Event()
    thread = threading.Thread(target=waits.wait)
    thread.start()
    try:
        with muxcore.Server(Pid, "127.0.0.1:0", workers=2, engine=engine) as server:
            assert (server.workers, server.engine, server.ready) == (2, engine, True)
            with Peer(server.addresses[0]) as peer:
                assert who(peer) != os.getpid()
                peer.send(b"hello")
                assert peer.read(5) == b"hello"
        assert server.failed is None
    finally:
        waits.set()
        thread.join()
    assert not server.ready


def test_nothing_is_left_of_a_server_that_was_stopped() -> None:
    before = set(os.listdir("/proc/self/fd")), children(os.getpid())
    server = muxcore.Server(Pid, "127.0.0.1:0", workers=2).start()
    assert server.stop()
    assert (set(os.listdir("/proc/self/fd")), children(os.getpid())) == before


def test_a_server_that_was_never_started_leaves_nothing() -> None:
    before = set(os.listdir("/proc/self/fd"))
    server = muxcore.Server(Pid, "127.0.0.1:0", workers=2)
    server.stop()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_drain_lets_clients_of_workers_finish() -> None:
    with muxcore.Server(Pid, "127.0.0.1:0", workers=2) as server:
        with Peer(server.addresses[0]) as peer:
            who(peer)
            server.request_drain()
            assert not server.ready
            peer.send(b"still here")
            assert peer.read(10) == b"still here"
        assert server.drain()


def test_an_object_that_can_be_pickled_is_a_service_of_workers() -> None:
    server = muxcore.Server(Says(b"this"), "127.0.0.1:0", workers=1)
    with server, Peer(server.addresses[0]) as peer:
        assert peer.read_all() == b"this"


def test_what_has_no_name_is_refused_and_it_is_said_what_to_do() -> None:
    with pytest.raises(muxcore.ServiceError, match="define it at the top of a module"):
        muxcore.Server(lambda: Pid(), "127.0.0.1:0", workers=1)


def test_a_start_fails_if_no_worker_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTED_PARENT", str(os.getpid()))
    server = muxcore.Server(Fails(), "127.0.0.1:0", workers=2)
    with pytest.raises(muxcore.WorkerFailed, match="OSError: no such disk"):
        server.start()
    assert children(os.getpid()) == []


@pytest.mark.parametrize(
    ("where", "balance"),
    [
        ("127.0.0.1:0", "kernel"),
        ("unix", "exact"),
        pytest.param("unix", "kernel", marks=pytest.mark.deep),
        pytest.param("127.0.0.1:0", "exact", marks=pytest.mark.deep),
    ],
)
def test_there_may_be_fewer_and_more_workers(where: str, balance: str, tmp_path: Path) -> None:
    where = where if where != "unix" else f"unix:{tmp_path}/s"
    with muxcore.Server(Pid, where, workers=3, balance=balance) as server:
        for count in (1, 4, 2, 3):
            server.set_workers(count)
            assert server.workers == count
            eventually(lambda: len(children(os.getpid())) == count + 1, "not so many")  # noqa: B023
            for _ in range(20):
                with Peer(server.addresses[0]) as peer:
                    who(peer)
        for count in (0, 12):
            with pytest.raises(ValueError, match=f"may have 1 to 11 workers, not {count}"):
                server.set_workers(count)
    assert children(os.getpid()) == []


def test_the_parent_sleeps_while_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    turn = Parent.turn

    def counted(parent: Parent) -> None:
        nonlocal turns
        turns += 1
        turn(parent)

    monkeypatch.setattr(Parent, "turn", counted)
    with muxcore.Server(Pid, "127.0.0.1:0", workers=1) as server:
        server.set_workers(4)
        eventually(lambda: len(children(os.getpid())) >= 4, "none are started")
        server.set_workers(1)  # some were started for nothing
        with Peer(server.addresses[0]) as peer:
            who(peer)
            peer.pause(0.3)
    assert turns < 200  # about twenty words and ends; one that does not sleep has thousands


def test_a_server_without_workers_can_have_none() -> None:
    server = muxcore.Server(Pid, "127.0.0.1:0")
    with pytest.raises(RuntimeError, match="this server has no workers"):
        server.set_workers(2)
    server.stop()


@pytest.mark.parametrize("options", [{"balance": "exact"}, {"worker_setup": os.getpid}])
def test_what_is_for_workers_is_refused_without_any(options: Any) -> None:
    with pytest.raises(ValueError, match="is for workers: say how many, as in workers=2"):
        muxcore.Server(Pid, "127.0.0.1:0", **options)


def test_the_setup_is_called_in_each_worker_before_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        muxcore.Server(Pid, "127.0.0.1:0", workers=1, worker_setup=note) as server,
        Peer(server.addresses[0]) as peer,
    ):
        assert (tmp_path / "noted").read_text() == str(who(peer))


def test_bound_sockets_are_shared_by_all_workers() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    with muxcore.Server(Pid, sock, workers=2) as server, Peer(server.addresses[0]) as peer:
        who(peer)


def test_a_service_of_the_main_module_is_served_and_the_rest_of_it_is_not_run(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM.replace("GUARD", 'if __name__ == "__main__":'))
    done = _run(program)
    assert (done.stdout, done.returncode) == ("HELLO\n", 0), done.stderr


def test_a_main_module_that_serves_without_a_guard_is_told_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM.replace("GUARD", "if True:"))
    done = _run(program)
    assert done.returncode == 1
    assert 'let the program serve under `if __name__ == "__main__":`' in done.stderr


def test_a_service_typed_into_an_interpreter_is_refused() -> None:
    text = _PROGRAM.replace("GUARD", "if True:")
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert "from a main module without a file" in done.stderr


_PROGRAM = """
import muxcore
from muxcore.testing import Peer, eventually

class Upper:
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data.upper())

GUARD
    with muxcore.Server(Upper, "127.0.0.1:0", workers=1) as server:
        with Peer(server.addresses[0]) as peer:
            peer.send(b"hello")
            print(peer.read(5).decode())
"""


def _run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("engine", each("shared_state"))
def test_what_a_guard_lets_in_is_shared_out_over_workers(engine: str) -> None:
    guard = muxcore.Guard(Pid, connections=2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(muxcore.Server(guard, "127.0.0.1:0", workers=2, engine=engine))
        inside = []
        for _ in range(60):  # the kernel gives each to a worker by chance
            peer = stack.enter_context(Peer(server.addresses[0]))
            try:
                inside.append(who(peer))
            except (AssertionError, ValueError, OSError):
                peer.close()  # it was refused
        assert len(inside) == len(set(inside)) == 2
