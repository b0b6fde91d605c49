"""Lingering: how long a socket stays after its connection has ended.

Over loopback TCP the peer's kernel acknowledges at once. A unix socket counts what was not read as
not taken, so there a peer can keep a socket waiting.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from muxcore import Limits
from muxcore.testing import Peer, Recorder
from muxcore.testing.recorder import LOST, MADE, lost
from muxcore.testing.suite import EngineSuite, Run, eventually


class Refuses(Recorder):
    """Answers the first bytes of a longer question, and closes."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"enough")
        self.transport.close()


def _adopted(run: Run) -> Peer:
    """Have the server refuse a connection of which 9,000 bytes are unread."""
    ours, theirs = socket.socketpair()
    peer = run.keep(Peer(ours))
    peer.send(10_000)
    run.server.adopt(theirs, lambda: Refuses(run.journal))
    run.journal.wait(lambda: LOST in run.journal.everything(), "connection_lost")
    return peer


def test_connection_lost_does_not_wait_but_the_descriptor_is_counted(suite: EngineSuite) -> None:
    limits = Limits(read_chunk=1000, linger_timeout=60)
    with suite.serving(Recorder, limits=limits) as run:
        peer = _adopted(run)
        run.call(int)
        assert run.server.stats().open == 1
        assert peer.read_all() == b"enough"
        peer.close()
        eventually(lambda: run.server.stats().open == 0, "the peer has taken all")


def test_a_peer_that_takes_nothing_is_waited_for_no_longer_than_the_limit(
    suite: EngineSuite,
) -> None:
    limits = Limits(read_chunk=1000, linger_timeout=0.1)
    with suite.serving(Recorder, limits=limits) as run:
        start = time.monotonic()
        peer = _adopted(run)
        eventually(lambda: run.server.stats().open == 0, "it was given up")
        assert time.monotonic() - start >= 0.1
        peer.close()


def test_without_a_time_to_linger_it_is_closed_at_once(suite: EngineSuite) -> None:
    with suite.serving(Recorder, limits=Limits(read_chunk=1000, linger_timeout=0)) as run:
        _adopted(run)
        run.call(int)
        assert run.server.stats().open == 0


def test_the_end_of_the_engine_waits_for_it_within_the_drain(suite: EngineSuite) -> None:
    limits = Limits(read_chunk=1000, linger_timeout=60, stop_timeout=0.2)
    with suite.serving(Recorder, limits=limits) as run:
        _adopted(run)
        start = time.monotonic()
        assert run.server.stop() is False  # nobody knows whether all has arrived
        assert time.monotonic() - start >= 0.1


def test_it_makes_room_for_another_client_only_when_it_is_closed(suite: EngineSuite) -> None:
    limits = Limits(read_chunk=1000, linger_timeout=60, connections=1)
    with suite.serving(Recorder, limits=limits) as run:
        peer = _adopted(run)
        waiting = run.connect()
        run.call(int)
        assert run.events(waiting) == []
        peer.read_all()
        peer.close()
        run.wait_for(MADE, waiting)


def test_an_abort_with_unread_input_does_not_linger(suite: EngineSuite) -> None:
    class Pauses(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    with suite.serving(Pauses) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        peer.send(20_000)
        run.call(transport.abort)
        peer.read_reset()
        assert run.life(peer) == [MADE, LOST]


def test_an_error_does_not_linger(suite: EngineSuite) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    with suite.serving(Fails, limits=Limits(read_chunk=1000)) as run:
        peer = run.connect()
        peer.send(20_000)
        peer.read_reset()
        assert run.life(peer) == [MADE, lost("ZeroDivisionError")]


def test_where_nothing_is_unread_a_close_asks_nothing_more(
    suite: EngineSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    import muxcore.pure.readiness

    def refuse(*args: Any) -> None:
        raise AssertionError("it lingers")

    monkeypatch.setattr(muxcore.pure.readiness, "Lingering", refuse)
    with suite.serving(Refuses) as run:
        peer = run.connect()
        peer.send(100)
        assert peer.read_all() == b"enough"
        assert run.life(peer) == [MADE, LOST]
    assert run.server.stats().errors == {}
