"""Which upstream a client gets; the clock and the jitter are the test's."""

from __future__ import annotations

from typing import Any

import pytest

import muxcore
from muxcore.pool import FIRST_PAUSE, LONGEST_PAUSE, Pool, Upstream


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _pool(*upstreams: str, **options: Any) -> tuple[Pool, _Clock]:
    clock = _Clock()
    return Pool(*upstreams, clock=clock, spread=lambda: 0.5, **options), clock


def _taken(pool: Pool) -> Upstream:
    taken = pool.take()
    assert taken is not None
    return taken


def _take(pool: Pool) -> str:
    return _taken(pool).name


def test_round_robin_gives_each_its_turn() -> None:
    pool, _ = _pool("a:1", "b:1", "c:1")
    assert [_take(pool) for _ in range(6)] == ["a:1", "b:1", "c:1"] * 2


def test_least_connections_gives_the_one_with_the_fewest() -> None:
    pool, _ = _pool("a:1", "b:1", policy="least-connections")
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert first is not second
    pool.left(second)
    assert pool.take() is second


def test_one_that_fails_is_left_alone_and_its_pause_doubles_up_to_the_longest() -> None:
    pool, clock = _pool("a:1", "b:1")
    bad = pool.upstreams[0]
    pause = FIRST_PAUSE
    for _ in range(10):
        taken = pool.take()
        while taken is not bad:
            assert taken is not None
            pool.left(taken)
            taken = pool.take()
        pool.failed(bad, clock.now, "refused")
        assert pool.stats()["a:1"].state == "resting"
        assert abs(pool.stats()["a:1"].rests_for - pause) < 1e-6
        assert [_take(pool) for _ in range(4)] == ["b:1"] * 4
        clock.now += pause
        pause = min(2 * pause, LONGEST_PAUSE)


def test_after_the_pause_one_client_probes_and_success_ends_it() -> None:
    pool, clock = _pool("a:1", "b:1")
    bad = pool.take()
    assert bad is not None
    pool.failed(bad, clock.now, "refused")
    clock.now += FIRST_PAUSE
    assert pool.take() is bad
    assert pool.stats()["a:1"].state == "probing"
    assert [_take(pool) for _ in range(3)] == ["b:1"] * 3  # one probe at a time
    pool.connected(bad)
    assert pool.stats()["a:1"].state == "up"
    assert "a:1" in [_take(pool) for _ in range(2)]


def test_where_all_rest_the_one_that_is_due_first_is_tried_all_the_same() -> None:
    pool, clock = _pool("a:1", "b:1")
    for _ in range(2):
        taken = pool.take()
        assert taken is not None
        pool.failed(taken, clock.now, "refused")
        clock.now += 0.1
    assert _take(pool) == "a:1"


def test_clients_that_waited_for_a_dying_upstream_do_not_lengthen_its_pause() -> None:
    pool, clock = _pool("a:1")
    began = clock.now
    taken = [pool.take() for _ in range(5)]
    for each in taken:
        assert each is not None
        clock.now += 0.01
        pool.failed(each, began, "timed out")
    assert pool.stats()["a:1"].rests_for <= FIRST_PAUSE
    assert pool.stats()["a:1"].failed == 5


def test_none_is_left_when_all_were_tried() -> None:
    pool, _ = _pool("a:1", "b:1")
    assert pool.take(pool.upstreams) is None


def test_an_upstream_with_as_many_clients_as_it_may_have_gets_no_more() -> None:
    pool, _ = _pool("a:1", "b:1", max_active=2)
    taken = [_taken(pool) for _ in range(4)]
    assert [each.active for each in pool.upstreams] == [2, 2]
    assert pool.take() is None
    assert pool.full() == 2
    taken[0].connection_lost(None)
    assert pool.take() is taken[0]


def test_least_connections_keeps_the_cap_too() -> None:
    pool, _ = _pool("a:1", "b:1", policy="least-connections", max_active=1)
    assert {_take(pool), _take(pool)} == {"a:1", "b:1"}
    assert pool.take() is None


def test_one_that_is_full_is_not_probed_and_none_that_rests_is_hurried() -> None:
    pool, clock = _pool("a:1", "b:1", max_active=1)
    full, bad = _taken(pool), _taken(pool)
    pool.failed(bad, clock.now, "refused")
    assert pool.take() is None  # the one that is up is full, and the other rests
    clock.now += FIRST_PAUSE
    assert pool.take() is bad  # it is probed
    assert pool.take() is None
    pool.left(bad)
    pool.failed(full, clock.now, "refused")
    full.active = 1  # somebody was joined with it before
    clock.now += FIRST_PAUSE
    assert pool.take() is bad
    assert pool.take() is None


def test_without_a_cap_nobody_is_full() -> None:
    pool, _ = _pool("a:1")
    for _ in range(1000):
        pool.take()
    assert pool.full() == 0


def test_the_end_of_a_connection_is_counted() -> None:
    pool, _ = _pool("a:1")
    upstream = _taken(pool)
    pool.connected(upstream)
    assert pool.stats()["a:1"] == muxcore.UpstreamStats("up", 1, 1, 0, 0.0)
    upstream.connection_lost(ConnectionResetError())
    assert pool.stats()["a:1"] == muxcore.UpstreamStats("up", 0, 1, 0, 0.0)


def test_what_counts_clients_in_one_place_requires_that_of_the_engine() -> None:
    assert Pool("a:1").requires == frozenset()
    assert Pool("a:1", max_active=1).requires == {"shared_state"}
    assert Pool("a:1", policy="least-connections").requires == {"shared_state"}


def test_a_pool_shows_its_upstreams() -> None:
    assert repr(Pool("a:1", 5432)) == "Pool('a:1', '127.0.0.1:5432')"


@pytest.mark.parametrize(
    ("upstreams", "options", "error", "why"),
    [
        ((), {}, TypeError, "at least one upstream"),
        ((":5432",), {}, muxcore.AddressError, "5432"),
        (("db:0",), {}, muxcore.AddressError, "port 0"),
        (("db:1", "db:1"), {}, muxcore.AddressError, "twice"),
        (("db:1",), {"policy": "random"}, ValueError, "round-robin, least-connections"),
        (("db:1",), {"connect_timeout": 0}, ValueError, "above 0"),
        (("db:1",), {"connect_timeout": "1"}, ValueError, "a number of seconds"),
        (("db:1",), {"max_active": 0}, ValueError, "at least 1"),
        (("db:1",), {"max_active": 1.5}, ValueError, "a whole number"),
        (("db:1",), {"max_active": True}, ValueError, "a whole number"),
    ],
)
def test_what_cannot_work_is_refused(
    upstreams: tuple[str, ...], options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        Pool(*upstreams, **options)
