"""Deadlines and resets: who is ended, how, and who must not be."""

from __future__ import annotations

import time
from typing import Any

from muxcore.limits import Limits
from muxcore.testing.contract.relaying import relays
from muxcore.testing.patience import paced
from muxcore.testing.peer import SMALL, narrow
from muxcore.testing.recorder import EOF, MADE, FlowRecorder, Recorder, StaysOpen, lost
from muxcore.testing.suite import EngineSuite, eventually
from muxcore.testing.survival.clients import EchoWriter
from muxcore.testing.upstream import Silent, Upstream

MIB = 1 << 20
_RESET = lost("ConnectionResetError")


class Deadlines(EngineSuite):
    # -- how it ends

    def test_a_silent_client_is_ended_by_a_reset(self) -> None:
        with self.serving(Recorder, limits=Limits(idle_timeout=0.1)) as run:
            peer = run.connect()
            peer.read_reset()
            assert run.life(peer) == [MADE, lost("IdleTimeout")]

    def test_a_client_whose_buffer_passed_its_cap_is_ended_by_a_reset(self) -> None:
        self.needs("flow_control")

        class Floods(FlowRecorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(bytes(4 * MIB))

        with self.serving(Floods, narrow(), limits=Limits(write_buffer=2 * MIB)) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"go")
            assert run.life(peer)[-1] == lost("BufferLimitExceeded")
            peer.read_reset()

    def test_a_closed_connection_whose_peer_takes_nothing_is_ended_by_a_reset(self) -> None:
        self.needs("flow_control")

        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))
                transport.close()

        with self.serving(Closes, narrow(), limits=Limits(close_timeout=0.1)) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert run.life(peer) == [MADE, lost("CloseTimeout")]
            peer.read_reset()
            assert run.server.stats().errors["CloseTimeout"] == 1

    # -- a reset is heard by those who do not read

    def test_a_reset_is_heard_while_reading_is_paused(self) -> None:
        self.needs("hears_resets", "threadsafe_calls")
        with self.serving(Recorder) as run:
            for unread in (b"", b"unread"):
                peer = run.connect()
                run.call(run.protocol(peer).transport.pause_reading)
                peer.send(unread)
                peer.reset()
                assert run.life(peer) == [MADE, _RESET]

    def test_a_reset_is_heard_after_the_peers_eof(self) -> None:
        self.needs("hears_resets")

        with self.serving(StaysOpen) as run:
            peer = run.connect()
            peer.shutdown_write()
            run.wait_for(EOF, peer)
            peer.reset()
            assert run.life(peer) == [MADE, EOF, _RESET]

    def test_a_reset_is_heard_by_a_relay_of_which_one_direction_has_ended(self) -> None:
        self.needs("hears_resets", "relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            client.shutdown_write()
            there.read_eof()
            client.reset()
            assert run.life(client) == [MADE, _RESET]
            eventually(lambda: run.server.stats().outgoing == 0, "the other side has ended as well")

    def test_a_reset_is_heard_while_a_relay_connects(self) -> None:
        self.needs("hears_resets", "relay")
        with Silent() as silent, self.serving(relays(silent.address)) as run:
            client = run.connect()
            run.wait_for(MADE, client)
            eventually(lambda: run.server.stats().outgoing == 1, "it is being connected")
            client.reset()
            assert run.life(client) == [MADE, _RESET]
            eventually(lambda: run.server.stats().outgoing == 0, "nobody waits for it any more")

    # -- a stall ends nobody whose bytes are waiting

    def test_clients_whose_bytes_wait_outlive_a_stall_of_the_engine(self) -> None:
        self.needs("threadsafe_calls")
        limits = Limits(idle_timeout=0.4)
        for pace in paced(0.4):
            with self.serving(EchoWriter, limits=limits) as run, pace:
                peers = [run.connect() for _ in range(10)]
                for peer in peers:
                    peer.send(b"x")
                    peer.read(1)
                with run.held():
                    for peer in peers:
                        peer.send(b"waits")
                    pace.end()
                    time.sleep(1.0)
                for peer in peers:
                    assert peer.read(5) == b"waits"

    def test_a_slow_callback_ends_nobody_whose_bytes_wait(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Slow(EchoWriter):
            def data_received(self, data: bytes) -> None:
                if data == b"slow":
                    time.sleep(1.0)
                self.transport.write(data)

        for pace in paced(0.4):
            with self.serving(Slow, limits=Limits(idle_timeout=0.4)) as run, pace:
                peers = [run.connect() for _ in range(10)]
                for peer in peers:
                    peer.send(b"x")
                    peer.read(1)
                with run.held():  # all in one turn, whoever is heard first
                    for number, peer in enumerate(peers):
                        peer.send(b"slow" if number == 4 else b"fast")
                    pace.end()
                for number, peer in enumerate(peers):
                    assert peer.read(4) == (b"slow" if number == 4 else b"fast")

    def test_the_idle_deadline_counts_from_the_answer_of_a_slow_callback(self) -> None:
        self.needs("shared_state")

        class Slow(Recorder):
            def data_received(self, data: bytes) -> None:
                time.sleep(0.6)
                self.note(time.monotonic())
                self.transport.write(data)

            def connection_lost(self, exc: BaseException | None) -> None:
                self.note(time.monotonic())
                super().connection_lost(exc)

        for pace in paced(0.5):
            with self.serving(Slow, limits=Limits(idle_timeout=0.5)) as run, pace:
                peer = run.connect()
                peer.send(b"x")
                pace.end()
                made, *notes, why = run.life(peer)
                assert (made, len(notes), why) == (MADE, 2, lost("IdleTimeout"))
                # the deadline, but for what two clocks may differ
                assert notes[1][1] - notes[0][1] >= 0.4
