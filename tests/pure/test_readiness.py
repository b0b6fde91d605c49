"""The loop that select and epoll share: what it refuses, and how it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.errors import EngineUnavailable
from muxcore.testing import Peer, Recorder
from muxcore.testing.recorder import LOST, MADE, Journal
from muxcore.testing.suite import EngineSuite
from muxcore.testing.survival.clients import EchoWriter
from muxcore.testing.survival.descriptors import crowded

_FD_SETSIZE = 1024  # <sys/select.h>


def test_an_engine_that_select_could_not_wake_is_refused_when_it_is_made() -> None:
    with crowded(_FD_SETSIZE):
        before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
        with pytest.raises(EngineUnavailable, match=r"FD_SETSIZE.*pure-epoll"):
            muxcore.Server(muxcore.Echo, 0, engine="pure-select")
        if before:
            assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_protocol_that_cannot_even_be_looked_at_costs_its_client_alone(
    suite: EngineSuite,
) -> None:
    class Odd(EchoWriter):
        @property
        def verb(self) -> Any:
            raise ZeroDivisionError

    journal = Journal()
    made: list[Any] = []

    def service() -> Any:
        made.append(Odd(journal) if len(made) == 1 else EchoWriter(journal))
        return made[-1]

    with suite.serving(service) as run:
        good, odd = run.connect(), run.connect()
        odd.read_end()
        good.send(b"still served")
        assert good.read(12) == b"still served"
        assert run.server.stats().errors == {"ZeroDivisionError": 1}
    journal.close()


# -- a fork


def _in_child(call: Callable[[], object]) -> str:
    """Make a call in a forked child, and return what it raised."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call()
            raised = ""
        except BaseException as exc:
            raised = f"{type(exc).__name__}: {exc}"
        os.write(writer, raised.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def test_a_fork_may_close_the_engine_and_the_parent_goes_on(suite: EngineSuite) -> None:
    with suite.serving(EchoWriter) as run:
        peer, unread = run.connect(), run.connect()
        run.wait_for(MADE, peer)
        run.wait_for(MADE, unread)
        with run.held():
            assert _in_child(run.server._engine.close) == ""
        for each in (peer, unread, run.connect()):
            each.send(b"still served")
            assert each.read(12) == b"still served"


def test_a_fork_may_abort_a_connection_and_the_parent_goes_on(suite: EngineSuite) -> None:
    class Forks(Recorder):
        def data_received(self, data: bytes) -> None:
            if data == b"fork":
                assert _in_child(self.transport.abort) == ""
            self.transport.write(data)

    with suite.serving(Forks) as run:
        peer = run.connect()
        for said in (b"fork", b"more"):
            peer.send(said)
            assert peer.read(4) == said


def test_a_fork_that_would_serve_is_refused_by_name(suite: EngineSuite) -> None:
    server = suite.server(muxcore.Echo)
    try:
        assert "is a fork of the one in which the server was made" in _in_child(server.run)
        with server:
            peer = Peer(server.addresses[0])
            peer.send(b"here")
            assert peer.read(4) == b"here"
            peer.close()
    finally:
        server.stop()


# -- the end


def test_what_is_adopted_while_the_engine_ends_is_refused(suite: EngineSuite) -> None:
    ours, theirs = socket.socketpair()

    class Adopts(Recorder):
        def data_received(self, data: bytes) -> None:
            raise SystemExit

        def connection_lost(self, exc: BaseException | None) -> None:
            try:
                self.transport.server.adopt(theirs, Recorder)
            except RuntimeError:
                self.note("refused")
            super().connection_lost(exc)

    with ours, theirs, suite.serving(Adopts) as run:
        peer = run.connect()
        peer.send(b"x")
        assert run.life(peer) == [MADE, ("note", "refused"), LOST]
        with pytest.raises(SystemExit):
            run.server.stop()
        assert theirs.fileno() >= 0  # the caller's still


def test_every_call_that_was_queued_is_made_although_one_raises(suite: EngineSuite) -> None:
    made: list[int] = []

    def exits() -> None:
        raise SystemExit("the first")

    with suite.serving(EchoWriter) as run:
        with run.held():
            run.server.call_soon_threadsafe(exits)
            for number in range(3):
                run.server.call_soon_threadsafe(made.append, number)
        with pytest.raises(SystemExit, match="the first"):
            run.server.stop()
        assert made == [0, 1, 2]


class _Interrupted(Recorder):
    """Its connection_lost is interrupted."""

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        raise KeyboardInterrupt


def test_an_interrupt_in_each_connection_lost_keeps_nobody_from_hearing(suite: EngineSuite) -> None:
    with suite.serving(_Interrupted) as run:
        peers = [run.connect() for _ in range(5)]
        for peer in peers:
            run.wait_for(MADE, peer)
        run.server.request_stop()
        for peer in peers:
            assert run.life(peer) == [MADE, LOST]
        with pytest.raises(KeyboardInterrupt):
            run.server.stop()
        assert run.server.stats().open == 0


def test_whoever_had_a_number_that_comes_up_again_hears_so_once(suite: EngineSuite) -> None:
    engine: Any = suite.server(EchoWriter)._engine
    told: list[str] = []

    class Had:
        def __init__(self, name: str) -> None:
            self.name = name

        def disowned(self) -> None:
            told.append(self.name)

    first, second = Had("first"), Had("second")
    for each in (first, first, second):
        engine.claim(each, 900)
    assert told == ["first"]
    engine._handlers.pop(900)
    engine.close()
