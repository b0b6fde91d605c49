"""A restart: who takes over, what becomes of clients, and what of a successor that fails."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children
from tests.restarting.service import asked, ended, greeting

Start = Callable[..., Any]
Tell = Callable[..., None]

_OTHERS = [
    pytest.param(each.name, marks=pytest.mark.deep)
    for each in muxcore.engines()
    if each.available and each.name != muxcore.engine("auto").name
]


def talks(peer: Peer) -> None:
    peer.send(b"hello")
    assert peer.read(5) == b"hello"


def refuses(where: str) -> bool:
    try:
        Peer(where).close()
    except ConnectionRefusedError:
        return True
    return False


def served_by(where: str, pid: int, version: str, count: int = 1) -> None:
    """Check that so many clients in a row are served by a process, or a worker of it."""

    def each() -> (
        bool
    ):  # what the old one still accepts, while it closes what it listens on, it has
        greetings = [asked(where) for _ in range(count)]
        return all(found == version and pid in pids for found, *pids in greetings)

    eventually(each, f"others than {version} of process {pid} serve {where}")


@pytest.mark.parametrize("engine", [muxcore.engine("auto").name, *_OTHERS])
def test_the_new_program_takes_over_and_the_old_one_drains(
    start: Start, tell: Tell, tmp_path: Path, engine: str
) -> None:
    path = f"unix:{tmp_path}/here.sock"
    # the delay would be for a load balancer: nobody is to go elsewhere
    limits = {"drain_delay": 600}
    tell(where=("127.0.0.1:0", path), limits=limits, engine=engine)
    service = start()
    first, tcp = service.pid, service.addresses[0]
    with Peer(tcp) as before, Peer(path) as beside:
        assert greeting(before)[0] == greeting(beside)[0] == "one"
        tell("two", ("127.0.0.1:0", path), limits, engine=engine)
        second = service.restart()
        assert service.addresses == [tcp, path]
        service.says(f"process {second} has taken over; draining 2 clients for up to 25 s")
        for where in (tcp, path):
            served_by(where, second, "two")
        talks(before)
        talks(beside)
    eventually(lambda: ended(first), service.log)
    assert service.process.wait(30) == 0
    served_by(path, second, "two")  # the path is the new one's
    tell("three", (path,), engine=engine)
    third = service.restart()  # of one that was itself restarted
    served_by(path, third, "three")
    eventually(lambda: refuses(tcp), "somebody listens there still")
    service.says(f"nobody listens on {tcp} any more")
    eventually(lambda: ended(second), service.log)
    service.end()
    assert not Path(path.removeprefix("unix:")).exists()


def test_a_path_that_was_removed_is_there_again_after_a_restart(
    start: Start, tell: Tell, tmp_path: Path
) -> None:
    """What cleans /tmp takes sockets along; their listener goes on, and nobody can find it."""
    path = tmp_path / "here.sock"
    tell(where=(f"unix:{path}",))
    service = start()
    path.unlink()
    tell("two", (f"unix:{path}",))
    second = service.restart()
    served_by(f"unix:{path}", second, "two")
    service.end()
    assert not path.exists()


def test_who_waits_to_be_accepted_is_served_by_the_new_one(start: Start, tell: Tell) -> None:
    tell(limits={"connections": 1})
    service = start()
    with Peer(service.addresses[0]) as full:
        greeting(full)
        with Peer(service.addresses[0]) as waits:
            tell("two", (service.addresses[0],))  # by another name: where it is bound
            second = service.restart()
            assert greeting(waits)[:2] == ("two", second)
        talks(full)


def test_a_successor_that_fails_costs_nothing(start: Start, tell: Tell) -> None:
    limits = {"restart_timeout": 60.0}
    tell(limits=limits)
    service = start()
    first, (where,) = service.pid, service.addresses
    with Peer(where) as peer:
        greeting(peer)
        for fails, said in [
            ("at import", "ended with 1 before it was ready: serving on"),
            ("by an exit", "ended with 3 before it was ready: serving on"),
        ]:
            tell("broken", (where,), limits, fails)
            os.kill(first, signal.SIGUSR2)
            service.says(said)
            served_by(where, first, "one")
        assert "RuntimeError: it is broken" in service.log()
        tell("broken", (where, "unix:/there/is/no/folder"), limits)
        os.kill(first, signal.SIGUSR2)
        service.says(r"ended with 1 before it was ready \(cannot listen on unix:/there")
        tell("two", (where,), limits)
        second = service.restart()
        talks(peer)
        served_by(where, second, "two")


def test_one_that_is_never_ready_is_ended_in_time_and_two_at_once_there_are_not(
    start: Start, tell: Tell
) -> None:
    tell(limits={"restart_timeout": 1.0})
    service = start()
    first, (where,) = service.pid, service.addresses
    tell("late", (where,), fails="never ready")
    os.kill(first, signal.SIGUSR2)
    service.says("SIGUSR2: process [0-9]+ is starting to take over")
    os.kill(first, signal.SIGUSR2)
    service.says("is already (starting|ending)|was ended")
    service.says("was ended, since 1 s have passed before it was ready: serving on")
    assert children(first) == []
    served_by(where, first, "one")


def test_a_service_that_is_to_end_takes_along_who_was_to_take_over(
    start: Start, tell: Tell
) -> None:
    tell()
    service = start()
    tell("late", tuple(service.addresses), fails="never ready")
    os.kill(service.pid, signal.SIGUSR2)
    service.says("is starting to take over")
    (successor,) = children(service.pid)
    service.end()
    eventually(lambda: ended(successor), "it goes on")


def test_only_who_runs_in_the_main_thread_is_restarted() -> None:
    not_here = pytest.raises(RuntimeError, match="in the main thread")
    with muxcore.Server(muxcore.Echo, 0) as server, not_here:
        server.restart()


@pytest.mark.deep
def test_the_program_itself_may_ask_from_any_thread(start: Start, tell: Tell) -> None:
    tell()
    asks = Path(__file__).with_name("asks.py").read_text()
    service = start(program=asks)
    with Peer(service.addresses[0]) as peer:
        peer.send(b"restart")
        second = service.serves()
        service.says(rf"restart\(\): process {second} is starting to take over")
        service.says(f"process {second} has taken over; draining 1 client")


def test_fewer_workers_leave_nobody_in_a_queue(start: Start, tell: Tell) -> None:
    tell(workers=2)
    service = start()
    (where,) = service.addresses
    with contextlib.ExitStack() as stack:
        before = [stack.enter_context(Peer(where)) for _ in range(8)]
        workers = {greeting(peer)[1] for peer in before}
        os.kill(min(workers), signal.SIGUSR2)
        service.says("SIGUSR2: nothing to do: this is a worker")
        tell("two", (where,), workers=1)
        second = service.restart()
        served_by(where, second, "two", 30)
        for peer in before:
            talks(peer)


@pytest.mark.deep
def test_workers_may_come_and_go_and_be_balanced_otherwise(start: Start, tell: Tell) -> None:
    every: list[dict[str, Any]] = [
        {"workers": 3},
        {"workers": 2, "balance": "exact"},
        {"workers": 3, "balance": "exact"},
        {},
        {"workers": 2},
        {"workers": 4},
        {"workers": 1},
        {"engine": "pure-epoll"},
    ]
    tell()
    service = start()
    (where,) = service.addresses
    for number, options in enumerate(every):
        with contextlib.ExitStack() as stack:
            before = [stack.enter_context(Peer(where)) for _ in range(8)]
            for peer in before:
                greeting(peer)
            old = service.pid
            tell(f"v{number}", (where,), **options)
            new = service.restart()
            served_by(where, new, f"v{number}", 40)
            for peer in before:
                talks(peer)
        eventually(lambda old=old: ended(old), service.log)
