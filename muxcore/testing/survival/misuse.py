"""What no callback may do to the others: end an engine, spin it, or take their connections."""

from __future__ import annotations

import os
import signal
import socket
import sys
import warnings
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import SMALL, narrow
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import LOST, MADE, FlowRecorder, Recorder, data
from muxcore.testing.suite import eventually
from muxcore.testing.survival.clients import EchoWriter, idle_cpu

MIB = 1 << 20


class Misuse(ProgramSuite):
    def test_a_child_that_a_callback_forked_may_end_by_sys_exit(self) -> None:
        self.needs("shared_state")

        class Forks(Recorder):
            def data_received(self, data: bytes) -> None:
                with warnings.catch_warnings():  # of threads: the child does nothing
                    warnings.simplefilter("ignore", DeprecationWarning)
                    child = os.fork() if data == b"fork" else -1
                if child == 0:
                    sys.exit(0)
                if child > 0:
                    os.waitpid(child, 0)  # all that it does to the server it has done
                self.transport.write(data)

        with self.program(Forks) as program:
            forking, other = program.connect(), program.connect()
            other.send(b"here")
            assert other.read(4) == b"here"
            forking.send(b"fork")
            assert forking.read(4) == b"fork"
            for peer in (forking, other, program.connect()):
                peer.send(b"still served")
                assert peer.read(12) == b"still served"
                peer.close()
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_whatever_ends_a_program_ends_every_connection_first(
        self, kind: type[BaseException]
    ) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Exits(Recorder):
            def data_received(self, data: bytes) -> None:
                raise kind

            def connection_lost(self, exc: BaseException | None) -> None:
                super().connection_lost(exc)
                raise kind

        with self.serving(Exits) as run:
            peers = [run.connect() for _ in range(4)]
            for peer in peers:
                run.wait_for(MADE, peer)
            with run.held():  # one exits while another is lost, in one turn
                peers[0].send(b"x")
                peers[1].reset()
            assert [run.life(peer)[0] for peer in peers] == [MADE] * 4
            with pytest.raises(kind):
                run.server.stop()
            assert run.server.stats().open == 0
            with pytest.raises(OSError, match="refused"):
                run.connect()

    def test_a_verb_above_high_water_costs_no_cpu_while_nobody_reads(self) -> None:
        self.needs("flow_control", "shared_state")

        class Switches(FlowRecorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(bytes(4 * MIB))
                self.transport.echo()

        with self.serving(Switches, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"go")
            run.wait_for(data(b"go"), peer)
            peer.send(b"more")
            idle_cpu()
            assert peer.read(4 * MIB + 4)[-4:] == b"more"
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer)[-1] == LOST

    @pytest.mark.parametrize("service", [EchoWriter, muxcore.Echo])
    def test_what_stands_behind_urgent_data_is_heard(self, service: Any) -> None:
        self.needs("threadsafe_calls")
        with self.serving(service) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read(1)
            with run.held():  # a receive stops short in front of the mark: recv(2), MSG_OOB
                peer.send(b"A" * 100)
                peer.sock.send(b"!", socket.MSG_OOB)
                peer.send(b"B" * 100)
            assert peer.read(200) == b"A" * 100 + b"B" * 100

    def test_a_relay_to_a_connection_that_is_lost_changes_nothing(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with self.serving(EchoWriter) as run:
            peer, gone = run.connect(), run.connect()
            one, two = run.protocol(peer).transport, run.protocol(gone).transport
            gone.reset()
            run.life(gone)
            with pytest.raises(ValueError, match="closing"):
                run.call(lambda: one.relay(two))
            peer.send(b"still mine")
            assert peer.read(10) == b"still mine"

    @pytest.mark.parametrize("wrong", [{"first": 5}, {"back": "text"}, {"first": None}])
    def test_a_relay_refuses_what_is_no_bytes_and_changes_nothing(self, wrong: Any) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with self.serving(EchoWriter) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            with pytest.raises(TypeError, match=next(iter(wrong))):
                run.call(lambda: transport.relay("127.0.0.1:9", **wrong))
            peer.send(b"still mine")
            assert peer.read(10) == b"still mine"
            eventually(lambda: run.server.stats().outgoing == 0, "nothing was connected")
