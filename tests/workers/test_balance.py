"""Exact balance: who has more clients than another worker leaves the next to that one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter

import pytest

import muxcore
from muxcore.parts.balance import FIRST_GRANT, PATIENCE, Balance
from muxcore.parts.cells import Cells
from muxcore.testing import Peer, eventually
from tests.workers.engines import each
from tests.workers.services import Pid

_ENGINES = each()
_EACH = 20
# One that is off the processor for longer than PATIENCE looks is not waited for: a busy machine may
# do that at any time, but not always.
_TRIES = 10


def who(peer: Peer) -> int:
    return int(peer.read_line())


@pytest.mark.parametrize("where", ["127.0.0.1:0", pytest.param("unix", marks=pytest.mark.deep)])
@pytest.mark.parametrize("engine", _ENGINES)
def test_every_worker_has_as_many_clients_as_the_others(
    engine: str, where: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if where == "unix":
        where = f"unix:{tmp_path_factory.mktemp('s')}/s"
    for _ in range(_TRIES):
        server = muxcore.Server(Pid, where, workers=3, engine=engine, balance="exact")
        with server, contextlib.ExitStack() as stack:
            served: Counter[int] = Counter()
            for _ in range(3 * _EACH):
                served[who(stack.enter_context(Peer(server.addresses[0])))] += 1
        if sorted(served.values()) == [_EACH] * 3:
            return
    pytest.fail(f"in none of {_TRIES} tries all had as many: {served}")


@pytest.mark.parametrize("engine", _ENGINES)
def test_clients_that_come_all_at_once_are_balanced_too(engine: str) -> None:
    for _ in range(_TRIES):
        server = muxcore.Server(Pid, "127.0.0.1:0", workers=2, engine=engine, balance="exact")
        with server, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer(server.addresses[0])) for _ in range(2 * _EACH)]
            served = Counter(map(who, peers))
        if max(served.values()) <= _EACH + FIRST_GRANT:
            return
    pytest.fail(f"in none of {_TRIES} tries both had as many: {served}")


@pytest.mark.parametrize("engine", _ENGINES)
def test_nobody_waits_for_a_worker_that_is_stopped(engine: str) -> None:
    server = muxcore.Server(Pid, "127.0.0.1:0", workers=2, engine=engine, balance="exact")
    with server, contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Peer(server.addresses[0])) for _ in range(2))
        stays, stopped = who(first), who(second)
        os.kill(stopped, signal.SIGSTOP)
        try:
            for _ in range(3):
                assert who(stack.enter_context(Peer(server.addresses[0]))) == stays
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_the_one_that_replaces_a_dead_worker_comes_first() -> None:
    with (
        muxcore.Server(Pid, "127.0.0.1:0", workers=2, balance="exact") as server,
        contextlib.ExitStack() as stack,
    ):
        pids = [who(stack.enter_context(Peer(server.addresses[0]))) for _ in range(4)]
        os.kill(pids[0], signal.SIGKILL)
        new = 0

        def is_replaced() -> bool:
            nonlocal new
            with Peer(server.addresses[0]) as peer:
                new = who(peer)
            return new not in pids

        eventually(is_replaced, "it has no client")
        eventually(lambda: server.stats().open == 2, "those who left are still counted")
        served = [who(stack.enter_context(Peer(server.addresses[0]))) for _ in range(2)]
        assert served == [new, new]


def test_an_unknown_balance_is_refused() -> None:
    with pytest.raises(ValueError, match="balance must be 'kernel' or 'exact', not 'fair'"):
        muxcore.Server(Pid, "127.0.0.1:0", workers=2, balance="fair")


# -- the rule itself


def balance(*clients: int) -> Balance:
    """Return the first worker's; each has so many clients."""
    cells = Cells(len(clients) + 1)  # and one that nobody counts in
    for at, count in enumerate(clients):
        cells[at].open, cells[at].serving = count, True
    return Balance(cells, 0)


@pytest.mark.parametrize(("clients", "may"), [((0,), True), ((5, 5), True), ((4, 5, 6), True)])
def test_who_is_not_ahead_accepts(clients: tuple[int, ...], may: bool) -> None:
    assert balance(*clients).may_accept() is may


def test_who_is_ahead_looks_again_until_the_others_are_held_up() -> None:
    ahead = balance(6, 5)
    assert [ahead.may_accept() for _ in range(PATIENCE)] == [False] * PATIENCE
    assert [ahead.may_accept() for _ in range(FIRST_GRANT)] == [True] * FIRST_GRANT
    assert not ahead.may_accept()


def test_looks_at_clients_that_others_took_are_no_waiting() -> None:
    ahead = balance(6, 5)
    for _ in range(3 * PATIENCE):
        assert not ahead.may_accept()
        ahead.nobody_waits()
