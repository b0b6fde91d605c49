"""The deadlines of one connection of the readiness engines."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muxcore.errors import CloseTimeout, HalfCloseTimeout, IdleTimeout
from muxcore.limits import Limits
from muxcore.pure.poller import READ, WRITE
from muxcore.pure.stream_transport import StreamTransport
from muxcore.testing.patience import paced
from muxcore.testing.suite import EngineSuite
from muxcore.testing.survival.clients import EchoWriter

Pair = tuple[socket.socket, socket.socket]
MIB = 1 << 20


class Silent:
    """A protocol that hears nothing."""


def test_a_closed_connection_lives_as_long_as_its_peer_takes_something(
    still: Callable[..., Any], pair: Pair, emptied: Callable[[socket.socket], int]
) -> None:
    engine = still(close_timeout=10)
    transport = StreamTransport(engine, pair[0], Silent(), None)
    transport.opened(None)
    transport.write(bytes(MIB))
    transport.close()
    for now in range(8, 80, 8):
        engine.pass_time_until(now)
        assert emptied(pair[1])
        transport.on_event(WRITE)
    assert engine.ends == []
    engine.pass_time_until(81)
    assert engine.ends == []
    engine.pass_time_until(82)  # ten seconds after the last byte was taken
    assert [type(exc) for exc in engine.ends] == [CloseTimeout]


def test_a_close_whose_peer_took_something_during_a_stall_goes_on(
    still: Callable[..., Any], pair: Pair, emptied: Callable[[socket.socket], int]
) -> None:
    engine = still(close_timeout=10)
    transport = StreamTransport(engine, pair[0], Silent(), None)
    transport.opened(None)
    transport.write(bytes(MIB))
    transport.close()
    emptied(pair[1])  # of which the engine has not heard when the deadline is due
    engine.pass_time_until(15)
    assert engine.ends == []
    engine.pass_time_until(20)
    assert [type(exc) for exc in engine.ends] == [CloseTimeout]


def test_a_close_without_a_deadline_waits_for_ever(still: Callable[..., Any], pair: Pair) -> None:
    engine = still(close_timeout=None)
    transport = StreamTransport(engine, pair[0], Silent(), None)
    transport.opened(None)
    transport.write(bytes(MIB))
    transport.close()
    engine.pass_time_until(1e9)
    assert engine.ends == []


def test_a_connection_whose_bytes_wait_is_not_idle(still: Callable[..., Any], pair: Pair) -> None:
    heard: list[bytes] = []

    class Hears:
        def data_received(self, data: bytes) -> None:
            heard.append(data)

    engine = still(idle_timeout=10)
    transport = StreamTransport(engine, pair[0], Hears(), None)
    transport.opened(None)
    engine.pass_time_until(9)
    pair[1].send(b"waits")
    engine.pass_time_until(15)
    assert (heard, engine.ends) == ([b"waits"], [])
    engine.pass_time_until(20)
    assert [type(exc) for exc in engine.ends] == [IdleTimeout]


@contextlib.contextmanager
def half_closed_relay(engine: Any, pair: Pair) -> Iterator[socket.socket]:
    """Relay, hear the first side's EOF, and pass it on; yield the other side's peer."""
    here, there = socket.socketpair()
    with here, there:
        for sock in (here, there):
            sock.setblocking(False)
        one, two = (StreamTransport(engine, sock, Silent(), None) for sock in (pair[0], here))
        one.relay(two)
        pair[1].shutdown(socket.SHUT_WR)
        one.on_event(READ)
        yield there


def test_a_half_closed_relay_may_first_pass_on_what_waits(
    still: Callable[..., Any], pair: Pair
) -> None:
    engine = still(half_close_timeout=10)
    with half_closed_relay(engine, pair) as there:
        assert there.recv(1) == b""
        there.send(b"the answer")
        there.shutdown(socket.SHUT_WR)
        engine.pass_time_until(10)  # the machine stood still until now
        assert pair[1].recv(100) == b"the answer"
        assert engine.ends == [None, None]  # by itself, and by no deadline


def test_a_half_closed_relay_that_goes_on_is_ended_in_time(
    still: Callable[..., Any], pair: Pair
) -> None:
    engine = still(half_close_timeout=10)
    with half_closed_relay(engine, pair) as there:
        there.send(b"a piece, and no end")
        engine.pass_time_until(10)
        assert [type(exc) for exc in engine.ends] == [HalfCloseTimeout, HalfCloseTimeout]


def test_clients_whose_events_one_wait_does_not_bring_outlive_a_stall(
    suite: EngineSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muxcore.pure.epoll_engine._EVENTS_PER_WAIT", 2)
    for pace in paced(0.3):
        with suite.serving(EchoWriter, limits=Limits(idle_timeout=0.3)) as run, pace:
            peers = [run.connect() for _ in range(12)]
            for peer in peers:
                peer.send(b"x")
                peer.read(1)
            with run.held():
                for peer in peers:
                    peer.send(b"waits")
                pace.end()
                threading.Event().wait(0.7)  # more than twice the deadline
            for peer in peers:
                assert peer.read(5) == b"waits"
