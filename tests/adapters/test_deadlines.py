"""Deadlines of the adapters: what they end, how, and what they let be."""

from __future__ import annotations

import time
from typing import Any

import muxcore
from muxcore import Limits
from muxcore.testing.patience import paced
from muxcore.testing.peer import DEADLINE, SMALL, narrow
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import MADE, Recorder, data, lost
from muxcore.testing.upstream import Upstream

MIB = 1 << 20


class Pours(Recorder):
    """Sends more than the kernel takes for a client that does not read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(bytes(2 * MIB))


class PoursAndCloses(Pours):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.close()


def test_a_closing_connection_whose_peer_takes_nothing_is_reset(adapter: ProgramSuite) -> None:
    with adapter.serving(PoursAndCloses, narrow(), limits=Limits(close_timeout=0.2)) as run:
        peer = run.connect(receive_buffer=SMALL)
        assert run.life(peer) == [MADE, lost("CloseTimeout")]
        peer.read_reset()
        assert run.server.stats().errors["CloseTimeout"] == 1


def test_the_close_after_an_eof_has_that_deadline_too(adapter: ProgramSuite) -> None:
    with adapter.serving(Pours, narrow(), limits=Limits(close_timeout=0.2)) as run:
        peer = run.connect(receive_buffer=SMALL)
        run.wait_for(MADE, peer)
        run.call(run.protocol(peer).transport._unprotect)  # else the EOF waits for the queue
        peer.shutdown_write()
        assert run.life(peer)[-1] == lost("CloseTimeout")


def test_a_closing_connection_whose_peer_takes_a_little_at_times_goes_on(
    adapter: ProgramSuite,
) -> None:
    limits = Limits(close_timeout=0.4)
    for pace in paced(0.4):
        with adapter.serving(PoursAndCloses, narrow(), limits=limits) as run, pace:
            peer = run.connect(receive_buffer=SMALL)
            for _ in range(12):  # one and a half times the deadline
                peer.read(SMALL)
                peer.pause(0.05)
                pace.step()
            pace.end()
            peer.read(2 * MIB - 12 * SMALL)
            peer.read_eof()
            assert run.life(peer)[-1] == ("connection_lost", None)


def test_the_idle_deadline_resets_who_does_not_read(adapter: ProgramSuite) -> None:
    with adapter.serving(Pours, narrow(), limits=Limits(idle_timeout=0.2)) as run:
        peer = run.connect(receive_buffer=SMALL)
        assert run.life(peer) == [MADE, lost("IdleTimeout")]
        peer.read_reset()


def test_a_buffer_beyond_its_limit_resets_who_does_not_read(adapter: ProgramSuite) -> None:
    class PoursWhenAsked(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(bytes(2 * MIB))

    with adapter.serving(PoursWhenAsked, narrow(), limits=Limits(write_buffer=MIB)) as run:
        peer = run.connect(receive_buffer=SMALL)
        peer.send(b"?")
        assert run.life(peer) == [MADE, lost("BufferLimitExceeded")]
        peer.read_reset()


def test_the_half_close_deadline_resets_the_side_that_went_on(adapter: ProgramSuite) -> None:
    limits = Limits(half_close_timeout=0.2)
    with (
        Upstream() as upstream,
        adapter.serving(muxcore.Relay(upstream.address), limits=limits) as run,
    ):
        client = run.connect()
        there = run.accept(upstream)
        client.shutdown_write()
        there.read_eof()
        client.read_reset()


def test_a_stall_ends_nobody_whose_bytes_are_waiting(adapter: ProgramSuite) -> None:
    idle = 0.4
    for pace in paced(idle):
        with adapter.serving(Recorder, limits=Limits(idle_timeout=idle)) as run, pace:
            peers = [run.connect() for _ in range(5)]
            for peer in peers:
                run.wait_for(MADE, peer)
            with run.held():
                for peer in peers:
                    peer.send(b"waits")
                pace.end()
                time.sleep(2 * idle)  # the stall
            for peer in peers:
                run.wait_for(data(b"waits"), peer)


def test_a_stall_ends_no_attempt_that_is_connected_meanwhile(adapter: ProgramSuite) -> None:
    timeout = min(0.2, DEADLINE)

    class Connects(Recorder):
        def data_received(self, data: bytes) -> None:
            service = type(self)
            self.transport.server.connect(data.decode(), lambda: service(self.journal), timeout)
            time.sleep(2 * timeout)  # the stall: the connection is made in the kernel

    with Upstream() as upstream, adapter.serving(Connects) as run:
        client = run.connect()
        client.send(upstream.address.encode())
        there = run.accept(upstream)
        run.wait_for(MADE, there)
