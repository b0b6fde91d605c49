"""Trouble that only the process model has: children that die, stay, inherit, or are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import DEADLINE
from muxcore.testing.program import Program, ProgramSuite
from muxcore.testing.recorder import MADE, Recorder, data
from muxcore.testing.suite import eventually


class TellsPid(Recorder):
    """Answers with the number of its process, and how many sockets that has."""

    def data_received(self, data: bytes) -> None:
        sockets = [fd for fd in _descriptors(os.getpid()) if fd.startswith("socket:")]
        self.transport.write(b"%d %d\n" % (os.getpid(), len(sockets)))


class ProcessSuite(ProgramSuite):
    """Survival of engines of the process model, beside ``SurvivalSuite``; Linux only."""

    def test_every_client_has_a_process_of_its_own(self) -> None:
        with self.serving(TellsPid) as run:
            pids = set()
            for peer in [run.connect() for _ in range(3)]:
                peer.send(b"?")
                pids.add(peer.read_line())
            assert len(pids) == 3

    def test_children_that_are_killed_leave_no_zombie_and_a_serving_parent(self) -> None:
        with self.program(TellsPid) as program:
            for _ in range(20):
                peer = program.connect()
                peer.send(b"?")
                pid = int(peer.read_line().split()[0])
                os.kill(pid, signal.SIGKILL)
                peer.read_end()
            eventually(lambda: not _children(program.pid), "every child was waited for")
            peer = program.connect()
            peer.send(b"?")
            assert peer.read_line()
            program.signal(signal.SIGTERM)
            assert program.report()["errors"] == {"killed by SIGKILL": 20}

    def test_a_child_keeps_its_clients_socket_and_no_other(self) -> None:
        with self.program(TellsPid) as program:
            others = [program.connect() for _ in range(3)]
            for other in others:
                program.wait_for(MADE, other)
            peer = program.connect()
            peer.send(b"?")
            assert peer.read_line().split()[1] == b"1"

    def test_the_parent_keeps_no_clients_socket(self) -> None:
        with self.program(TellsPid) as program:
            before = len(_descriptors(program.pid))
            for peer in [program.connect() for _ in range(3)]:
                program.wait_for(MADE, peer)
            eventually(
                lambda: len(_descriptors(program.pid)) == before, "the parent's copies are closed"
            )

    def test_children_end_with_their_server_however_it_ends(self) -> None:
        with self.program(TellsPid) as program:
            peers = [program.connect() for _ in range(3)]
            pids = []
            for peer in peers:
                peer.send(b"?")
                pids.append(int(peer.read_line().split()[0]))
            program.signal(signal.SIGKILL)
            program.wait()
            for peer in peers:
                peer.read_end()
            eventually(lambda: not any(map(_alive, pids)), "no child is left")

    def test_at_the_cap_of_processes_clients_wait_for_their_turn(self) -> None:
        with self.serving(Recorder, limits=Limits(processes=2)) as run:
            one, two, three = (run.connect() for _ in range(3))
            for peer in (one, two):
                run.wait_for(MADE, peer)
            three.send(b"waits")
            two.send(b"x")
            run.wait_for(data(b"x"), two)
            assert run.events(three) == []
            one.close()
            run.wait_for(data(b"waits"), three)

    def test_the_status_of_somebody_elses_child_is_left_to_him(self) -> None:
        statuses: list[int] = []
        children: list[subprocess.Popen[bytes]] = []

        def spawn() -> None:
            children.append(subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"]))

        def wait() -> list[int]:
            statuses.append(children[0].wait(DEADLINE))
            return statuses

        with self.program(muxcore.Echo, first=spawn, at_end=wait) as program:
            program.play("send 1; read 1; close")
            eventually(lambda: _state(_children_of(program)[0]) == "Z", "the other child has ended")
            program.play("send 1; read 1; close")
            program.signal(signal.SIGTERM)
            assert program.report()["at_end"] == [7]

    def test_beside_running_threads_it_does_not_start_and_names_them(self) -> None:
        release = threading.Event()
        thread = threading.Thread(target=release.wait, name="somebody")
        thread.start()
        try:
            server = self.server(muxcore.Echo)
            with pytest.raises(muxcore.EngineUnavailable, match="somebody"):
                server.start()
            with self.serving(muxcore.Echo, allow_threads=True) as run:
                run.play("send 1; read 1; close")
        finally:
            release.set()
            thread.join()

    def test_output_is_not_written_twice(self) -> None:
        program = (
            "import muxcore, sys\n"
            "print('once', end='')\n"
            f"with muxcore.Server(muxcore.Echo, 0, engine={self.engine!r}) as server:\n"
            "    from muxcore.testing import Peer\n"
            "    Peer.play(server.addresses[0], 'send 1; read 1; shutdown-write; read-eof')\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=30, check=True
        )
        assert ran.stdout == b"once"

    def test_a_client_that_does_nothing_costs_the_parent_no_cpu(self) -> None:
        with self.program(Recorder) as program:
            program.wait_for(MADE, program.connect())
            before = program.cpu_seconds()
            time.sleep(0.2)
            assert program.cpu_seconds() - before <= 0.05


def _children_of(program: Program) -> list[int]:
    found = _children(program.pid)
    assert found, "the program has no child"
    return found


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def _descriptors(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for fd in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{fd}"))
        except OSError:
            pass  # the folder's own
    return found


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def _alive(pid: int) -> bool:
    try:
        return _state(pid) not in "ZX"
    except FileNotFoundError:
        return False
