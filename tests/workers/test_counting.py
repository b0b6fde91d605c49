"""The counters of a service are those of all its workers, of the dead ones too."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

import muxcore
from muxcore.testing import Peer, eventually
from tests.usual import usual
from tests.workers.services import Pid

_ENGINES = [info.name for info in muxcore.engines() if info.available]
_COUNT_LATER = ("pure-process", "asyncio", "uvloop")  # bytes, when a client has gone
_SIZE = 5000


def who(peer: Peer) -> int:
    return int(peer.read_line())


@pytest.mark.parametrize("service", [Pid, muxcore.Echo])
@pytest.mark.parametrize("engine", usual(_ENGINES))
def test_what_every_worker_counts_adds_up(engine: str, service: object) -> None:
    server = muxcore.Server(service, "127.0.0.1:0", workers=2, engine=engine)  # type: ignore[arg-type]
    with server:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer(server.addresses[0])) for _ in range(8)]
            said = 0
            for peer in peers:
                if service is Pid:
                    said += len(peer.read_line())
                peer.send(bytes(_SIZE))
                peer.read(_SIZE)
            assert server.stats().open == 8
        eventually(lambda: server.stats().open == 0, "some stay open")
        stats = server.stats()
        assert (stats.total, stats.bytes_in) == (8, 8 * _SIZE)
        assert stats.bytes_out == 8 * _SIZE + said
    assert server.stats().as_dict() == stats.as_dict()


@pytest.mark.parametrize("engine", [e for e in _ENGINES if e not in _COUNT_LATER])
def test_a_worker_that_is_killed_leaves_what_it_has_counted(engine: str) -> None:
    with (
        muxcore.Server(Pid, "127.0.0.1:0", workers=1, engine=engine) as server,
        Peer(server.addresses[0]) as peer,
    ):
        pid = who(peer)
        peer.send(bytes(_SIZE))
        peer.read(_SIZE)
        os.kill(pid, signal.SIGKILL)
        peer.read_end()
        with Peer(server.addresses[0]) as last:
            assert who(last) != pid
            stats = server.stats()
            assert (stats.open, stats.total, stats.bytes_in) == (1, 2, _SIZE)


def test_errors_are_counted_by_their_names() -> None:
    with muxcore.Server(Pid, "127.0.0.1:0", workers=2, engine="pure-epoll") as server:
        for _ in range(3):
            peer = Peer(server.addresses[0])
            who(peer)
            peer.reset()
        eventually(lambda: server.stats().errors == {"ConnectionResetError": 3}, "not counted")


def test_connections_are_shared_out_and_who_is_too_many_waits() -> None:
    limits = muxcore.Limits(connections=2)
    with (
        muxcore.Server(Pid, "127.0.0.1:0", workers=2, limits=limits) as server,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(Peer(server.addresses[0])) for _ in range(12)]
        eventually(lambda: server.stats().open == 2, "a worker has no client")
        assert server.stats().total == 2

        def served() -> list[Peer]:
            return [peer for peer in peers if peer.readable()]

        eventually(lambda: len(served()) == 2, "they hear nothing")
        served()[0].close()
        eventually(lambda: server.stats().total == 3, "nobody who waited is served")
