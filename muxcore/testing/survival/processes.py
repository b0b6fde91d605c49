"""Trouble that only the process model has: children that die, stay, inherit, or are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import DEADLINE, SMALL, Peer, narrow
from muxcore.testing.program import Program, ProgramSuite
from muxcore.testing.recorder import MADE, Recorder, data
from muxcore.testing.suite import eventually
from muxcore.testing.survival.descriptors import crowded


class TellsPid(Recorder):
    """Answers with the number of its process, and how many sockets that has."""

    def data_received(self, data: bytes) -> None:
        sockets = [fd for fd in _descriptors(os.getpid()) if fd.startswith("socket:")]
        self.transport.write(b"%d %d\n" % (os.getpid(), len(sockets)))


class _Floods:
    """Sends more than the kernel takes for a client that does not read."""

    def connection_made(self, transport: Any) -> None:
        transport.write(bytes(2 << 20))


_FD_SETSIZE = 1024  # <sys/select.h>


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

    def test_a_callback_that_ends_its_program_ends_its_own_process_and_is_counted(self) -> None:
        class Ends(TellsPid):
            def data_received(self, data: bytes) -> None:
                if data == b"exit":
                    raise SystemExit(3)
                if data == b"interrupt":
                    raise KeyboardInterrupt
                super().data_received(data)

        with self.program(Ends) as program:
            for word in (b"exit", b"interrupt"):
                peer = program.connect()
                peer.send(word)
                peer.read_end()
            peer = program.connect()
            peer.send(b"?")
            assert peer.read_line()
            eventually(lambda: len(_children(program.pid)) == 1, "those two have ended")
            program.signal(signal.SIGTERM)
            errors = {"ended with status 3": 1, "ended with status 1": 1}
            assert program.report()["errors"] == errors

    def test_a_child_that_says_why_it_failed_is_counted_once(self) -> None:
        def broken() -> None:
            raise LookupError("no protocol today")

        with self.program(broken) as program:
            program.connect().read_end()
            eventually(lambda: not _children(program.pid), "the child is waited for")
            program.signal(signal.SIGTERM)
            assert program.report()["errors"] == {"LookupError": 1}

    def test_signals_that_the_program_has_blocked_stay_so(self) -> None:
        def block() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

        def blocked() -> list[int]:
            return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

        with self.program(TellsPid, first=block, at_end=blocked) as program:
            peer = program.connect()
            peer.send(b"?")
            peer.read_line()
            program.signal(signal.SIGTERM)
            peer.read_end()
            assert program.report()["at_end"] == [signal.SIGINT]

    def test_an_acceptor_whose_parent_is_gone_ends_and_costs_no_cpu_until_then(self) -> None:
        reader, writer = os.pipe()
        parent = os.fork()
        if parent == 0:
            limits = Limits(drain_timeout=60)
            server = self.server(_Floods, narrow(), limits=limits, allow_threads=True).start()
            os.write(writer, server.addresses[0].encode())
            time.sleep(3600)
            os._exit(0)
        os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:
            address = pipe.read(100).decode()
        (acceptor,) = _children(parent)
        with Peer(address, receive_buffer=SMALL) as peer:
            peer.read(1)
            (child,) = _children(acceptor)
            os.kill(parent, signal.SIGKILL)
            os.waitpid(parent, 0)
            eventually(lambda: _refuses(address), "nobody listens any more")
            before = _cpu_seconds(acceptor)
            time.sleep(0.3)
            assert _cpu_seconds(acceptor) - before <= 0.1
            assert _alive(child)
        eventually(lambda: not _alive(acceptor) and not _alive(child), "it has ended")

    def test_a_program_that_waits_for_any_child_hinders_nobody(self) -> None:
        def wait_for_any() -> None:
            signal.signal(signal.SIGCHLD, lambda number, frame: _wait_for_any())

        with self.program(muxcore.Echo, first=wait_for_any) as program:
            for _ in range(3):
                program.play("send 1; read 1; close")
            stays = program.connect()
            stays.send(b"x")
            stays.read(1)
            program.signal(signal.SIGTERM)
            stays.read_eof()
            assert program.wait() == 0

    def test_an_acceptor_that_somebody_else_has_waited_for_has_ended(self) -> None:
        with self.serving(muxcore.Echo, allow_threads=True) as run:
            (acceptor,) = _children_of_ours()
            run.server.request_stop()
            os.waitpid(acceptor, 0)
            assert run.server.stop() is True

    def test_an_acceptor_that_was_killed_is_told_of(self) -> None:
        server = self.server(muxcore.Echo, allow_threads=True).start()
        (acceptor,) = _children_of_ours()
        assert server.failed is None
        os.kill(acceptor, signal.SIGKILL)
        eventually(lambda: server.failed is not None, "it is told")
        for _ in range(2):
            assert "ended with status -9" in str(server.failed)
        with pytest.raises(RuntimeError, match="status -9"):
            server.stop()
        server.stop()

    def test_a_program_with_more_descriptors_than_select_takes_can_stop_it(self) -> None:
        with (
            crowded(_FD_SETSIZE),
            self.serving(muxcore.Echo, allow_threads=True) as run,
        ):
            run.play("send 1; read 1; close")
            assert run.server.stop() is True

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


def _children_of_ours() -> list[int]:
    return _children(os.getpid())


def _wait_for_any() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _refuses(address: str) -> bool:
    try:
        Peer(address).close()
    except ConnectionRefusedError:
        return True
    return False


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
