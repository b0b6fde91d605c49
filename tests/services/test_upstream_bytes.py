"""Bytes a second of one upstream: its clients share them, those of others have their own."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import muxcore
from muxcore.pool import sharing
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream
from tests.usual import usual

from .test_guard_bytes import _ENGINES, BURST, MANY, in_engine

ON_EACH = pytest.mark.parametrize("engine", usual(_ENGINES, ("native-epoll", "pure-epoll")))


@contextlib.contextmanager
def _relayed(engine: str, **limits: Any) -> Iterator[tuple[muxcore.Server, Upstream, muxcore.Pool]]:
    with Upstream() as upstream:
        pool = muxcore.Pool(muxcore.Upstream(upstream.address, **limits))
        with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine) as server:
            yield server, upstream, pool
            eventually(lambda: server.stats().open == 0, "one is left")
            assert pool.upstreams[0].active == 0
            assert not server._engine.witnesses


def _lift(server: muxcore.Server, pool: muxcore.Pool) -> None:
    in_engine(server, lambda: pool.change(pool.upstreams[0].name))


@ON_EACH
@pytest.mark.parametrize("way", ["up", "down"])
def test_no_more_moves_than_an_upstream_may_have_until_that_is_lifted(
    engine: str, way: str
) -> None:
    with _relayed(engine, **{f"bytes_{way}": 1}) as (server, upstream, pool):
        client, there = Peer(server.addresses[0]), upstream.accept()
        sends, gets = (client, there) if way == "up" else (there, client)
        sends.send(MANY)
        assert gets.read(BURST - 200) == MANY[: BURST - 200]  # the rest of it is a quantum
        gets.send(MANY)  # the other way there is no limit
        assert sends.read(len(MANY)) == MANY
        assert server.stats().bytes_in <= len(MANY) + BURST + 60
        _lift(server, pool)
        assert gets.read(len(MANY) - BURST + 200) == MANY[BURST - 200 :]
        client.close()
        there.close()


@ON_EACH
def test_all_clients_of_an_upstream_share_its_bytes(engine: str) -> None:
    with _relayed(engine, bytes_up=1) as (server, upstream, pool):
        pairs = [(Peer(server.addresses[0]), upstream.accept()) for _ in range(3)]
        for client, _ in pairs:
            client.send(MANY)
        eventually(lambda: server.stats().bytes_in >= BURST - 200, "the burst does not come")
        assert server.stats().bytes_in <= BURST + 60
        _lift(server, pool)
        for client, there in pairs:
            assert there.read(len(MANY)) == MANY
            client.close()
            there.close()


def test_a_worker_has_its_share_and_a_copy_its_own_bucket() -> None:
    whole = muxcore.Upstream("a:1", bytes_up=100, bytes_down=50)
    shared = sharing.upstream_of(whole, (2, 5))
    assert (shared.bytes_up, shared.bytes_down) == (20, 10)
    assert shared.witness is not whole.witness
    assert (whole.bytes_up, whole.bytes_down) == (100, 50)
    again = pickle.loads(pickle.dumps(whole))
    assert (again.bytes_up, again.bytes_down) == (100, 50)
    assert sharing.upstream_of(muxcore.Upstream("a:1"), (1, 2)).witness is None


def test_only_a_pool_that_limits_bytes_asks_for_rates() -> None:
    pool = muxcore.Pool("a:1", "b:1")
    assert "rates" not in pool.requires
    pool.change(muxcore.Upstream("a:1", bytes_down=1), "b:1")
    assert "rates" in pool.requires
    assert copy.copy(pool.upstreams[0]).bytes_down == 1


@pytest.mark.parametrize("wrong", [0, -1, "fast", float("nan"), True])
def test_bytes_that_cannot_be_are_refused_by_their_name(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Upstream\(bytes_down="):
        muxcore.Upstream("a:1", bytes_down=wrong)
