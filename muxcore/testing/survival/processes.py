"""Trouble that only the process model has: children that die, stay, inherit, or are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import DEADLINE, SMALL, narrow, pattern
from muxcore.testing.proc import alive, children, descriptors, ran_seconds, state
from muxcore.testing.program import Program
from muxcore.testing.recorder import LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import eventually, meanwhile
from muxcore.testing.survival.acceptors import Acceptors
from muxcore.testing.survival.clients import idle_cpu
from muxcore.testing.survival.draining import nobody_listens
from muxcore.testing.upstream import Upstream


class TellsPid(Recorder):
    """Answers with the number of its process, and how many sockets that has."""

    def data_received(self, data: bytes) -> None:
        sockets = [fd for fd in descriptors(os.getpid()) if fd.startswith("socket:")]
        self.transport.write(b"%d %d\n" % (os.getpid(), len(sockets)))


class ProcessSuite(Acceptors):
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
            eventually(lambda: not children(program.pid), "every child was waited for")
            peer = program.connect()
            peer.send(b"?")
            assert peer.read_line()
            peer.close()
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

    def test_a_signal_that_is_for_the_parent_does_not_end_its_children(self) -> None:
        with self.program(TellsPid) as program:
            peer = program.connect()
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                peer.send(b"?")
                os.kill(int(peer.read_line().split()[0]), number)
            peer.send(b"?")
            assert peer.read_line()

    def test_a_child_that_waits_for_bytes_hears_of_a_drain(self) -> None:
        class Tells(TellsPid):
            def draining(self) -> None:
                self.transport.write(b"told\n")

        with self.program(Tells, limits=Limits(drain_timeout=600)) as program:
            peer = program.connect()
            peer.send(b"?")
            pid = int(peer.read_line().split()[0])
            eventually(lambda: state(pid) == "S", "it does not wait")
            program.signal(signal.SIGTERM)
            assert peer.read_line() == b"told\n"
            peer.send(b"?")  # of which nothing was lost
            assert int(peer.read_line().split()[0]) == pid

    def test_a_sigterm_to_each_process_is_a_drain_as_one_to_the_parent_is(self) -> None:
        with self.program(TellsPid, limits=Limits(drain_timeout=600)) as program:
            peer = program.connect()
            peer.send(b"?")
            os.kill(int(peer.read_line().split()[0]), signal.SIGTERM)
            program.signal(signal.SIGTERM)  # as systemd does: KillMode=control-group
            eventually(lambda: nobody_listens(program), "it accepts")
            peer.send(b"?")
            assert peer.read_line()
            peer.close()
            assert program.wait() == 0

    def test_the_parent_keeps_no_clients_socket(self) -> None:
        with self.program(TellsPid) as program:
            before = len(descriptors(program.pid))
            for peer in [program.connect() for _ in range(3)]:
                program.wait_for(MADE, peer)
            eventually(
                lambda: len(descriptors(program.pid)) == before, "the parent's copies are closed"
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
            eventually(lambda: not any(map(alive, pids)), "no child is left")

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
            eventually(lambda: len(children(program.pid)) == 1, "those two have ended")
            peer.close()
            program.signal(signal.SIGTERM)
            errors = {"ended with status 3": 1, "ended with status 1": 1}
            assert program.report()["errors"] == errors

    def test_a_child_that_says_why_it_failed_is_counted_once(self) -> None:
        def broken() -> None:
            raise LookupError("no protocol today")

        with self.program(broken) as program:
            program.connect().read_end()
            eventually(lambda: not children(program.pid), "the child is waited for")
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
            peer.close()
            program.signal(signal.SIGTERM)
            assert program.report()["at_end"] == [signal.SIGINT]

    def test_what_is_unread_at_the_close_does_not_take_what_was_sent(self) -> None:
        answer = pattern(1 << 20)

        class Answers(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(answer)
                self.transport.close()

        limits = Limits(read_chunk=1000, linger_timeout=60)
        with self.serving(Answers, narrow(), limits=limits) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(bytes(8 * SMALL))
            assert peer.read_all() == answer
            assert run.life(peer) == [MADE, LOST]

    def test_what_is_unread_at_the_end_of_the_server_does_not_either(self) -> None:
        answer = pattern(1 << 20)

        class Answers(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(answer)

        limits = Limits(read_chunk=1000, linger_timeout=60, stop_timeout=60)
        with self.program(Answers, narrow(), limits=limits) as program:
            peer = program.connect(receive_buffer=SMALL)
            peer.send(bytes(8 * SMALL))
            program.wait_for("data_received", peer)
            program.signal(signal.SIGINT)
            got = peer.read_all()
            assert got == answer * max(1, len(got) // len(answer))  # until it heard the signal
            assert program.wait() == 130

    def test_an_idle_connection_ends_with_a_reset(self) -> None:
        class Floods(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"hello")

        with self.serving(Floods, limits=Limits(idle_timeout=0.1)) as run:
            peer = run.connect()
            assert run.life(peer)[-1] == lost("IdleTimeout")
            peer.read_reset()

    def test_a_closed_relay_whose_peer_takes_nothing_ends_with_a_reset(self) -> None:
        class Joins(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.server.connect(upstream.address, lambda: Far(transport))

        class Far:
            def __init__(self, client: Any) -> None:
                self.client = client

            def connection_made(self, transport: Any) -> None:
                self.client.relay(transport, back=bytes(4 << 20))
                self.client.close()

        limits = Limits(close_timeout=0.1)
        with Upstream() as upstream, self.serving(Joins, narrow(), limits=limits) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert run.life(peer)[-1] == lost("CloseTimeout")
            peer.read_reset()
            run.accept(upstream).read_end()

    def test_a_child_refuses_calls_from_other_threads_of_its_own(self) -> None:
        class Asks(Recorder):
            def data_received(self, data: bytes) -> None:
                connect = self.transport.server.connect
                with (
                    pytest.raises(RuntimeError, match="not the engine's"),
                    meanwhile(lambda: connect("127.0.0.1:1", muxcore.Echo)),
                ):
                    pass
                self.note("refused")

        with self.serving(Asks) as run:
            peer = run.connect()
            peer.send(b"x")
            run.wait_for(("note", "refused"), peer)

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
            eventually(lambda: state(_children_of(program)[0]) == "Z", "the other child has ended")
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
            idle_cpu(lambda: ran_seconds(program.pid))

    def test_a_pool_that_counts_clients_is_refused_where_each_would_count_for_itself(self) -> None:
        self.needs("relay")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                with pytest.raises(muxcore.CapabilityMissing, match="shared_state"):
                    transport.relay(muxcore.Pool("127.0.0.1:9", max_active=1))
                transport.echo()  # nothing has begun

        with self.serving(Asks) as run:
            run.play("send 10; read 10; shutdown-write; read-eof")


def _children_of(program: Program) -> list[int]:
    found = children(program.pid)
    assert found, "the program has no child"
    return found
