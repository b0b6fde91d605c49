"""``--workers``: a parent that owns the sockets, and processes that serve."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing import Peer, eventually
from muxcore.testing.proc import alive, children, descriptors, state
from tests.workers.engines import each

Start = Callable[..., Any]

_ENGINES = each()

_APP = """
import os
from pathlib import Path

HERE = os.getpid()  # a child that the process model forks tells whose it is

class Pid:
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"%d\\n" % HERE)
    def data_received(self, data):
        self.transport.write(data)

class Breaks:
    def __call__(self):
        return Pid()
    @property
    def requires(self):
        if Path("broken").exists():
            os._exit(3)
        return ()

breaks = Breaks()

class Reloads:
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        server = self.transport.server
        server.on_reload.append(lambda server: self.transport.write(b"reloaded"))
        self.transport.write(b"ok")

if Path("cannot").exists():
    raise RuntimeError("it is broken")
"""


_SLOW = """
from pathlib import Path
import time

class Slow:
    def eof_received(self): ...

if Path("imported").exists():  # by the parent
    Path("begun").touch()
    time.sleep(600)
Path("imported").touch()
"""

_HANGS = """
import os
from pathlib import Path
import time

class Hangs:
    def data_received(self, data):
        Path("being written").write_text(str(os.getpid()))
        Path("being written").rename("hung")
        while True:
            time.sleep(60)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of a service that tells which process serves."""
    (tmp_path / "app.py").write_text(_APP)
    return tmp_path


def who(peer: Peer) -> int:
    """Return the pid of the worker that serves a client."""
    return int(peer.read_line())


def asked(where: str) -> int:
    with Peer(where) as peer:
        return who(peer)


def complaints(program: Any) -> list[str]:
    """Return its messages, but for how its drain went: when a client left is soon after."""
    lines: list[str] = program.complaint().splitlines()
    return [line for line in lines if not re.search(r"draining \d+ client|\d+ finished", line)]


def refuses(where: str) -> bool:
    """Whether nobody can connect any more."""
    try:
        Peer(where).close()
    except ConnectionError:
        return True
    return False


@contextlib.contextmanager
def hanging(command: Start, folder: Path) -> Iterator[tuple[Any, int]]:
    """Run a service whose one worker hangs, in a block; yields the program, and its pid."""
    (folder / "hangs.py").write_text(_HANGS)
    times = ("--drain-timeout", "0.1", "--stop-timeout", "0.1")
    program = command("serve", "hangs:Hangs", "0", "--workers", "1", *times, cwd=folder)
    with Peer(program.address) as peer:
        peer.send(b"x")
        eventually((folder / "hung").exists, "it was not called")
        hung = int((folder / "hung").read_text())
        yield program, hung


def workers_of(program: Any, count: int) -> set[int]:
    """Wait until so many serve and there is a spare; return who serves."""
    eventually(lambda: len(children(program.process.pid)) == count + 1, "there is no spare")
    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(asked(program.address))
        return len(seen) == count

    eventually(all_seen, lambda: f"of {count} workers {len(seen)} serve")
    return seen


@pytest.mark.parametrize("engine", _ENGINES)
def test_several_processes_serve_one_port_and_none_of_them_is_the_parent(
    command: Start, app: Path, engine: str
) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", "--engine", engine, cwd=app)
    first = rf"listening on 127\.0\.0\.1:[1-9]\d* \(engine {engine}(, \S+)?, 2 workers, pid \d+\)"
    assert re.fullmatch(first, program.line())
    assert workers_of(program, 2) < set(children(program.process.pid))
    program.signal(signal.SIGTERM)
    assert program.status() == 0
    assert complaints(program) == []


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_worker_that_is_killed_is_replaced_and_clients_of_others_see_nothing(
    command: Start, app: Path, engine: str
) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", "--engine", engine, cwd=app)
    before = workers_of(program, 2)
    with Peer(program.address) as peer:
        stays = who(peer)
        (killed,) = before - {stays}
        os.kill(killed, signal.SIGKILL)
        after = workers_of(program, 2)
        assert stays in after
        assert killed not in after
        peer.send(b"still here")
        assert peer.read(10) == b"still here"
    assert killed not in children(program.process.pid)  # nor is it a zombie
    program.signal(signal.SIGTERM)
    program.status()
    (complaint,) = complaints(program)
    why = rf"muxcore: worker [12] \(pid {killed}\) was killed by SIGKILL, and is replaced at once"
    assert re.fullmatch(why, complaint)


@pytest.mark.parametrize("where", ["0", "unix:s"])
def test_whoever_waits_in_the_queue_of_a_dead_worker_is_served_by_the_next(
    command: Start, app: Path, where: str
) -> None:
    program = command("serve", "app:Pid", where, "--workers", "1", cwd=app)
    address = program.address.replace("unix:", f"unix:{app}/")
    with Peer(address) as peer:
        dead = who(peer)
        program.signal(signal.SIGSTOP)  # it replaces nobody now
        eventually(lambda: state(program.process.pid) == "T", "it goes on")
        os.kill(dead, signal.SIGKILL)
        peer.read_end()
    with Peer(address) as peer:
        peer.send(b"hello")
        program.signal(signal.SIGCONT)
        assert who(peer) != dead
        assert peer.read(5) == b"hello"
    program.signal(signal.SIGTERM)
    assert program.status() == 0
    assert not (app / "s").exists()


def test_a_worker_that_somebody_drains_is_replaced_before_its_clients_are_gone(
    command: Start, app: Path
) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "1", cwd=app)
    workers_of(program, 1)
    with Peer(program.address) as peer:
        first = who(peer)
        os.kill(first, signal.SIGTERM)
        eventually(lambda: asked(program.address) != first, "nobody has its place")
        peer.send(b"still here")
        assert peer.read(10) == b"still here"
    eventually(lambda: first not in children(program.process.pid), "it goes on")
    program.signal(signal.SIGTERM)
    assert program.status() == 0
    assert f"muxcore: worker 1 (pid {first}) has ended, and is replaced" in complaints(program)


def test_sigterm_drains_every_worker(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    workers_of(program, 2)
    with Peer(program.address) as peer:
        who(peer)
        program.signal(signal.SIGTERM)
        eventually(lambda: refuses(program.address), "it accepts")
        peer.send(b"still here")
        assert peer.read(10) == b"still here"
    assert program.status() == 0


def test_a_drain_whose_time_is_over_ends_with_1(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", "--drain-timeout", "0.05", cwd=app)
    with Peer(program.address) as peer:
        who(peer)
        program.signal(signal.SIGTERM)
        peer.read_end()
        assert program.status() == 1


def test_sigint_stops_every_worker(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    with Peer(program.address) as peer:
        who(peer)
        program.signal(signal.SIGINT)
        peer.read_end()
        assert program.status() == 130


def test_a_second_signal_ends_the_waiting(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    with Peer(program.address) as peer:
        who(peer)
        program.signal(signal.SIGTERM)
        eventually(lambda: refuses(program.address), "it accepts")
        program.signal(signal.SIGTERM)
        peer.read_end()
        assert program.status() == 128 + signal.SIGTERM


def test_a_signal_to_every_process_is_one_and_not_two(command: Start, app: Path) -> None:
    # as a terminal does at Ctrl-C, and systemd when it ends a service
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    workers_of(program, 2)
    with Peer(program.address) as peer:
        who(peer)
        processes = children(program.process.pid)
        program.signal(signal.SIGTERM)
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: refuses(program.address), "it accepts")
        peer.send(b"still here")
        assert peer.read(10) == b"still here"
    assert program.status() == 0, program.complaint()


def test_a_worker_that_hangs_is_killed_after_the_second_signal(command: Start, app: Path) -> None:
    with hanging(command, app) as (program, hung):
        eventually(lambda: len(children(program.process.pid)) == 2, "there is no spare")
        program.signal(signal.SIGTERM)
        eventually(lambda: children(program.process.pid) == [hung], "it does not drain")
        program.signal(signal.SIGTERM)
        assert program.status() == 128 + signal.SIGTERM
        assert not alive(hung)


def test_nobody_is_left_after_the_third_signal(command: Start, app: Path) -> None:
    with hanging(command, app) as (program, hung):
        eventually(lambda: len(children(program.process.pid)) == 2, "there is no spare")
        program.signal(signal.SIGTERM)
        eventually(lambda: children(program.process.pid) == [hung], "it does not drain")
        program.signal(signal.SIGINT)
        program.signal(signal.SIGTERM)  # before or after it has killed whoever hangs
        assert program.status() in (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)
        eventually(lambda: not alive(hung), "it goes on")


def test_nobody_is_left_of_a_parent_that_is_killed_beside_a_worker_that_hangs(
    command: Start, app: Path
) -> None:
    with hanging(command, app) as (program, hung):
        program.signal(signal.SIGKILL)
        eventually(lambda: not alive(hung), "it goes on")


def test_a_reload_reaches_the_hooks_of_every_worker(command: Start, app: Path) -> None:
    program = command("serve", "app:Reloads", "0", "--workers", "2", cwd=app)
    with Peer(program.address) as peer:
        peer.send(b"x")
        assert peer.read(2) == b"ok"
        program.signal(signal.SIGHUP)
        assert peer.read(8) == b"reloaded"


def test_replacing_leaves_no_descriptor_behind(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    workers_of(program, 2)
    before = len(descriptors(program.process.pid))
    kills = 5
    for _ in range(kills):
        (first, *_) = workers_of(program, 2)
        os.kill(first, signal.SIGKILL)
        eventually(lambda pid=first: pid not in children(program.process.pid), "it goes on")
    workers_of(program, 2)
    # one more is there while the parent prepares the next to replace a worker
    eventually(lambda: len(descriptors(program.process.pid)) < before + kills, "some stay open")


def test_a_service_that_no_worker_can_import_ends_at_once_and_says_why(
    command: Start, app: Path
) -> None:
    (app / "app.py").write_text(
        _APP + 'Path("cannot").touch()\n'  # the parent can import it, and nobody after it
    )
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    assert program.status() == 1
    assert re.fullmatch(
        r"muxcore: a worker cannot serve: RuntimeError: it is broken \(.*app\.py:\d+\)\n",
        program.complaint(),
    )
    assert program.said == []


def test_workers_that_die_again_and_again_end_the_service_with_an_error(
    command: Start, app: Path
) -> None:
    program = command("serve", "app:breaks", "0", "--workers", "2", cwd=app)
    before = workers_of(program, 2)
    (app / "broken").touch()
    os.kill(before.pop(), signal.SIGKILL)
    assert program.status() == 1
    complaint = program.complaint().splitlines()
    assert re.fullmatch(
        r"muxcore: 6 workers in a row have ended before they served, or soon after; the last one "
        "ended with 3: its log may say why",
        complaint[-1],
    )
    assert not alive(before.pop())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_while_workers_begin(
    command: Start, app: Path, number: signal.Signals, status: int
) -> None:
    (app / "slow.py").write_text(_SLOW)
    program = command("serve", "slow:Slow", "0", "--workers", "2", cwd=app)
    eventually((app / "begun").exists, "no worker begins")
    workers = children(program.process.pid)
    program.signal(number)
    assert program.status() == status
    assert program.said == []
    assert not any(map(alive, workers))


def test_nobody_is_left_when_the_parent_is_killed(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", cwd=app)
    workers_of(program, 2)
    processes = children(program.process.pid)
    program.signal(signal.SIGKILL)
    eventually(lambda: not any(map(alive, processes)), "a worker goes on")


@pytest.mark.parametrize("engine", _ENGINES)
def test_the_socket_of_one_worker_less_is_served_by_another_one(
    command: Start, app: Path, engine: str
) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", "--engine", engine, cwd=app)
    before = workers_of(program, 2)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(program.address)) for _ in range(8)]
        pids = [who(peer) for peer in peers]
        program.signal(signal.SIGTTOU)
        # by chance so many are all the same one's in one of 500,000 looks
        eventually(lambda: len({asked(program.address) for _ in range(20)}) == 1, "two go on")
        stays = asked(program.address)
        # every socket's queue is served: by chance none of so many would be in the other's
        assert {asked(program.address) for _ in range(30)} == {stays}
        for peer in peers:
            peer.send(b"still here")
            assert peer.read(10) == b"still here"
    (left,) = before - {stays}
    eventually(lambda: left not in children(program.process.pid), "it goes on")
    program.signal(signal.SIGTTIN)
    assert len(workers_of(program, 2) - {stays, *pids}) == 1
    program.signal(signal.SIGTERM)
    assert program.status() == 0


def test_auto_is_a_worker_for_each_core_that_it_may_use(command: Start, app: Path) -> None:
    count = len(os.sched_getaffinity(0))
    program = command("serve", "app:Pid", "0", "--workers", "auto", cwd=app)
    assert f", {count} worker" in program.line()
    workers_of(program, count)


@pytest.mark.parametrize("number", ["0", "-1", "1025", "x", "1.5"])
def test_so_many_workers_there_cannot_be(command: Start, number: str) -> None:
    program = command("echo", "0", "--workers", number)
    assert program.status() == 2
    said = f"--workers must be auto or a whole number from 1 to 1024, not '{number}'"
    assert said in program.complaint()


def test_more_workers_than_connections_are_refused(command: Start) -> None:
    program = command("echo", "0", "--workers", "3", "--connections", "2")
    assert program.status() == 2
    assert program.complaint() == (
        "muxcore: 3 workers cannot share 2 connections: each needs one\n"
    )


def test_a_service_whose_connections_reach_one_another_is_refused(
    command: Start, app: Path
) -> None:
    room = "class Room:\n    requires = {'shared_state'}\n    def eof_received(self): ...\n"
    (app / "room.py").write_text(room)
    program = command("serve", "room:Room", "0", "--workers", "2", cwd=app)
    assert program.status() == 1
    assert "the service requires shared_state, which 2 workers do not have" in program.complaint()


def test_verbs_and_relays_have_workers_too(command: Start) -> None:
    echo = command("echo", "0", "--workers", "1")
    relay = command("relay", "0", echo.address, "--workers", "2", "--access-log", "text")
    Peer.play(relay.address, "send 5000; read 5000; shutdown-write; read-eof; close")
    assert f"-> {echo.address}" in relay.line() or echo.address in relay.said[-1]
    for program in (relay, echo):
        program.signal(signal.SIGTERM)
        assert program.status() == 0


def test_clients_are_balanced_exactly_where_that_is_asked_for(command: Start, app: Path) -> None:
    program = command("serve", "app:Pid", "0", "--workers", "2", "--balance", "exact", cwd=app)
    with contextlib.ExitStack() as stack:
        pids = [who(stack.enter_context(Peer(program.address))) for _ in range(6)]
    assert sorted(map(pids.count, set(pids))) == [3, 3]


def test_a_drain_tells_of_the_clients_of_all_workers(command: Start, app: Path) -> None:
    options = ("--workers", "2", "--balance", "exact", "--drain-timeout", "0.1")
    program = command("serve", "app:Pid", "0", *options, cwd=app)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(program.address)) for _ in range(4)]
        for peer in peers:
            who(peer)
        program.signal(signal.SIGTERM)
        for peer in peers:
            peer.read_end()
    assert program.status() == 1
    begun, ended = program.complaint().splitlines()
    assert begun == "muxcore: SIGTERM: draining 4 clients for up to 0.1 s; again to end them"
    assert ended.startswith("muxcore: 0 finished, 4 stopped after ")


def test_v_prints_the_clients_of_every_worker(command: Start) -> None:
    echo = command("echo", "0", "--workers", "2", "-v")
    with Peer(echo.address) as peer:
        assert echo.line() == f"+ 127.0.0.1:{peer.name[1]} connected"
