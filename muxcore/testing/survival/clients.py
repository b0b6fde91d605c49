"""Trouble that clients make: many, fast, slow, silent, greedy, gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import muxcore
from muxcore.limits import Limits
from muxcore.testing.patience import paced, soon
from muxcore.testing.peer import SMALL, Peer, narrow, pattern
from muxcore.testing.recorder import LOST, MADE, FlowRecorder, Recorder, StaysOpen, data, lost
from muxcore.testing.suite import EngineSuite, eventually

MIB = 1 << 20
_IDLE = 0.2  # s in which a loop that spins is told from one that sleeps


class EchoWriter(Recorder):
    """An echo by callbacks."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Clients(EngineSuite):
    # -- many, and fast

    def test_twenty_clients_that_connect_at_the_same_moment_are_all_served(self) -> None:
        with self.serving(muxcore.Echo) as run, contextlib.ExitStack() as stack:
            if "threadsafe_calls" in self.capabilities:
                stack.enter_context(run.held())
            peers = [run.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.send(b"%02d" % number)
            stack.close()
            for number, peer in enumerate(peers):
                assert peer.read(2) == b"%02d" % number

    def test_more_clients_than_one_turn_accepts_are_all_served(self) -> None:
        limits = Limits(accepts_per_turn=3)
        with self.serving(muxcore.Echo, limits=limits) as run, contextlib.ExitStack() as stack:
            if "threadsafe_calls" in self.capabilities:
                stack.enter_context(run.held())
            peers = [run.connect() for _ in range(10)]
            stack.close()
            for peer in peers:
                peer.send(b"x")
                assert peer.read(1) == b"x"

    def test_five_thousand_bytes_at_once_come_back_whole(self) -> None:
        limits = Limits(read_chunk=1024, reads_per_turn=2)
        for service in (muxcore.Echo, EchoWriter):
            with self.serving(service, limits=limits) as run:
                run.play("send 5000; read 5000; send 5000; read 5000; shutdown-write; read-eof")

    def test_a_flooder_does_not_starve_quiet_clients(self) -> None:
        with self.serving(EchoWriter) as run:
            quiet = [run.connect() for _ in range(3)]
            with flood(run.address, 2):
                for _ in range(3):
                    for peer in quiet:
                        peer.send(b"still there?")
                        soon(peer.readable, "a quiet client gets its answer")  # in milliseconds
                        peer.read(12)

    # -- caps

    def test_at_the_cap_of_connections_clients_wait_for_their_turn(self) -> None:
        limits = Limits(connections=2)
        with self.serving(Recorder, limits=limits) as run:
            one, two, three = (run.connect() for _ in range(3))
            for peer in (one, two):
                run.wait_for(MADE, peer)
            three.send(b"waits")
            two.send(b"x")
            run.wait_for(data(b"x"), two)
            assert run.events(three) == []
            assert run.server.stats().open == 2
            one.close()
            assert run.wait_for(data(b"waits"), three) == [MADE, data(b"waits")]

    # -- slow and silent

    def test_a_silent_client_is_ended_by_the_idle_deadline(self) -> None:
        with self.serving(Recorder, limits=Limits(idle_timeout=0.1)) as run:
            start = time.monotonic()
            peer = run.connect()
            peer.read_end()
            assert time.monotonic() - start >= 0.05
            assert run.life(peer) == [MADE, lost("IdleTimeout")]

    def test_a_talking_client_outlives_the_idle_deadline(self) -> None:
        limits = Limits(idle_timeout=0.4)
        for pace in paced(0.4):
            with self.serving(EchoWriter, limits=limits) as run, pace:
                peer = run.connect()
                until = time.monotonic() + 0.6
                while time.monotonic() < until:
                    peer.send(b"x")
                    assert peer.read(1) == b"x"
                    pace.step()
                    peer.pause(0.02)
                assert run.events(peer) == [MADE]

    def test_the_idle_deadline_holds_under_a_verb(self) -> None:
        for pace in paced(0.1):
            with self.serving(muxcore.Echo, limits=Limits(idle_timeout=0.1)) as run, pace:
                peer = run.connect()
                peer.send(b"x")
                peer.read(1)
                pace.end()
                peer.read_end()
                eventually(lambda: run.server.stats().errors["IdleTimeout"] == 1, "it is counted")

    def test_a_client_that_stops_reading_is_ended_by_the_idle_deadline(self) -> None:
        class Floods(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))

        with self.serving(Floods, narrow(), limits=Limits(idle_timeout=0.1)) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert run.life(peer) == [MADE, lost("IdleTimeout")]

    def test_a_client_that_does_not_read_delays_nobody(self) -> None:
        class Floods(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(bytes(2 * MIB) if data == b"flood" else data)

        with self.serving(Floods, narrow()) as run:
            deaf = run.connect(receive_buffer=SMALL)
            deaf.send(b"flood")
            for _ in range(3):
                peer = run.connect()
                peer.send(b"quick")
                assert peer.read(5) == b"quick"

    # -- gone

    def test_a_reset_at_any_moment_harms_nobody_else(self) -> None:
        class Floods(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data * 1000)

        with self.serving(Floods, narrow()) as run:
            witness = run.connect()
            for moment in ("", "send 1", "send 20000", "send 100; read-some", "shutdown-write"):
                for _ in range(3):
                    peer = run.connect(receive_buffer=SMALL)
                    if moment == "send 100; read-some":
                        peer.send(pattern(100))
                        peer.read(1000)
                    elif moment.startswith("send"):
                        peer.send(int(moment.split()[1]))
                    elif moment:
                        peer.shutdown_write()
                    peer.reset()
            witness.send(b"x")
            assert witness.read(1000) == b"x" * 1000
            eventually(lambda: run.server.stats().open == 1, "only the witness is open")

    def test_clients_that_are_gone_before_they_were_accepted_harm_nobody(self) -> None:
        self.needs("threadsafe_calls")
        with self.serving(Recorder) as run:
            with run.held():
                for _ in range(5):
                    run.connect().reset()
                for _ in range(5):
                    run.connect().close()
            peer = run.connect()
            peer.send(b"x")
            run.wait_for(data(b"x"), peer)
            eventually(lambda: run.server.stats().open == 1, "only one is open")

    def test_a_reset_while_sending_ends_in_connection_lost(self) -> None:
        class Floods(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))

        with self.serving(Floods, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.read(1000)
            peer.reset()
            assert run.life(peer)[-1] in (lost("ConnectionResetError"), lost("BrokenPipeError"))

    def test_a_client_that_closes_while_sent_to_ends_in_connection_lost(self) -> None:
        class Floods(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                for _ in range(16):
                    transport.write(bytes(MIB))

        with self.serving(Floods, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.read(1000)
            peer.close()
            assert run.life(peer)[-1][0] == LOST[0]

    def test_a_half_closed_client_still_gets_a_long_answer(self) -> None:
        class Answers(Recorder):
            def eof_received(self) -> bool:
                self.transport.write(pattern(2 * MIB))
                self.transport.close()
                return True

        with self.serving(Answers, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"question")
            peer.shutdown_write()
            peer.pause(0.02)
            assert peer.read_all() == pattern(2 * MIB)

    def test_a_client_that_took_a_long_answer_costs_no_cpu_afterwards(self) -> None:
        self.needs("shared_state")

        class Answers(FlowRecorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(pattern(2 * MIB))

        with self.serving(Answers, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"x")
            peer.pause(0.02)
            peer.read_pattern(2 * MIB)
            idle_cpu()

    def test_a_half_closed_idle_client_costs_no_cpu(self) -> None:
        self.needs("half_close", "shared_state")

        with self.serving(StaysOpen) as run:
            peer = run.connect()
            peer.shutdown_write()
            run.wait_for("eof_received", peer)
            idle_cpu()

    def test_a_paused_client_that_hung_up_costs_no_cpu(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            peer.send(b"unread")
            peer.reset()
            idle_cpu()
            run.call(transport.abort)
            assert run.life(peer)[0] == MADE


def idle_cpu(ran: Callable[[], float] = time.process_time) -> None:
    """See that a process needs next to no CPU for a while: no loop spins.

    Args:
        ran: returns the seconds that it was on a processor; by default this one.

    Idle it needs less than 1 %; a loop that spins takes all it gets: on a machine that is busy
    with ten others that is some 10 %.
    """
    for _ in range(3):  # something else in this process may have been at work for once
        start = ran()
        time.sleep(_IDLE)
        used = ran() - start
        if used < _IDLE * 0.04:
            return
    raise AssertionError(f"{used:.3f} s of CPU in {_IDLE:g} s of doing nothing")


@contextlib.contextmanager
def flood(address: str, clients: int) -> Iterator[None]:
    """Let processes of their own send without a pause, and read what comes back now and then."""
    pids = []
    try:
        for _ in range(clients):
            with warnings.catch_warnings():  # beside threads the child does no more than send
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                try:
                    _send_without_pause(address)
                finally:
                    os._exit(0)
            pids.append(pid)
        time.sleep(0.05)  # let them fill the server's buffers
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def _send_without_pause(address: str) -> None:
    signal.alarm(30)  # whatever becomes of the parent, this ends
    with Peer(address) as peer:
        peer.sock.setblocking(False)
        piece = bytes(65_536)
        while True:
            with contextlib.suppress(BlockingIOError):
                peer.sock.send(piece)
            with contextlib.suppress(BlockingIOError):
                if not peer.sock.recv(1 << 18, socket.MSG_TRUNC):
                    return
