"""Which upstream a client gets; the clock and the jitter are the test's."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.pool import FIRST_PAUSE, LONGEST_PAUSE, POLICIES, Pool, Upstream


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _pool(*upstreams: Any, **options: Any) -> tuple[Pool, _Clock]:
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
        (("db:1",), {"queue": -1}, ValueError, "queue must be a whole number from 0"),
        (("db:1",), {"queue_timeout": -1}, ValueError, "at least 0"),
        (("db:1",), {"slow_start": "1"}, TypeError, "a number of seconds"),
    ],
)
def test_what_cannot_work_is_refused(
    upstreams: tuple[str, ...], options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        Pool(*upstreams, **options)


# -- shares


def _shares(pool: Pool, clients: int) -> Counter[str]:
    """Return how often each is taken, where each client leaves at once."""
    found: Counter[str] = Counter()
    for number in range(clients):
        taken = pool.take(key=str(number).encode())
        assert taken is not None
        found[taken.name] += 1
        pool.left(taken)
    return found


@pytest.mark.parametrize("policy", ["round-robin", "least-connections"])
def test_the_clients_of_one_that_rests_are_shared_by_all_others(policy: str) -> None:
    pool, clock = _pool("a:1", "b:1", "c:1", policy=policy)
    pool.failed(_taken(pool), clock.now, "refused")
    assert sorted(_shares(pool, 30).values()) == [15, 15]


@pytest.mark.parametrize("policy", ["round-robin", "least-connections"])
def test_the_clients_of_one_that_is_full_are_shared_by_all_others(policy: str) -> None:
    full = Upstream("a:1", max_active=1)
    pool, _ = _pool(full, "b:1", "c:1", policy=policy)
    full.active = 1
    assert _shares(pool, 30) == {"b:1": 15, "c:1": 15}


@pytest.mark.parametrize("policy", ["round-robin", "least-connections"])
def test_those_with_the_fewest_clients_have_them_in_turns(policy: str) -> None:
    pool, _ = _pool("a:1", "b:1", "c:1", policy=policy)
    assert set(_shares(pool, 30).values()) == {10}


def test_weights_are_kept_and_spread() -> None:
    pool = Pool(Upstream("a:1", weight=5), Upstream("b:1", weight=1), Upstream("c:1", weight=1))
    order = [_take(pool) for _ in range(7)]
    assert Counter(order) == {"a:1": 5, "b:1": 1, "c:1": 1}
    assert max(len(list(run)) for _, run in itertools.groupby(order * 2)) <= 3


def test_the_fewest_clients_are_for_the_weight() -> None:
    pool = Pool(Upstream("a:1", weight=3), "b:1", policy="least-connections")
    taken = [_take(pool) for _ in range(40)]
    assert Counter(taken) == {"a:1": 30, "b:1": 10}


def test_two_random_ones_even_out() -> None:
    random.seed(1)
    pool = Pool(*(f"a:{port}" for port in range(1, 11)), policy="two-random")
    taken = Counter(_take(pool) for _ in range(1000))
    assert max(taken.values()) - min(taken.values()) <= 10  # of one choice it would be some 60


def test_the_first_one_with_a_place_is_taken_whatever_its_weight() -> None:
    spare = Upstream("c:1", backup=True)
    pool = Pool("a:1", Upstream("b:1", weight=9), spare, policy="first", max_active=2, queue=1)
    assert [_taken(pool).name for _ in range(4)] == ["a:1", "a:1", "b:1", "b:1"]
    assert pool.take() is None
    pool.upstreams[0].connection_lost(None)
    assert _taken(pool).name == "a:1"


def test_a_key_has_always_the_same_one_and_only_its_own_keys_move() -> None:
    names = [f"a:{port}" for port in range(1, 6)]
    pool = Pool(*names, policy="source")

    def homes() -> dict[bytes, str]:
        found = {}
        for number in range(2000):
            key = str(number).encode()
            taken = pool.take(key=key)
            assert taken is not None
            found[key] = taken.name
        return found

    before = homes()
    assert homes() == before
    assert all(300 < count < 500 for count in Counter(before.values()).values())
    pool.upstream("a:3").out = True
    pool.changed()
    after = homes()
    assert {before[key] for key in before if before[key] != after[key]} == {"a:3"}
    assert "a:3" not in after.values()


def test_a_key_finds_heavier_upstreams_more_often() -> None:
    pool = Pool(Upstream("a:1", weight=3), "b:1", policy="source")
    shares = _shares(pool, 4000)
    assert 2.5 < shares["a:1"] / shares["b:1"] < 3.6


def test_two_that_are_drawn_are_never_the_same_one() -> None:
    pool = Pool("a:1", "b:1", policy="two-random")
    busy = _take(pool)
    assert busy not in _shares(pool, 100)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_backup_gets_clients_only_while_no_other_is_up(policy: str) -> None:
    pool, clock = _pool("a:1", Upstream("b:1", backup=True), policy=policy)
    first = pool.upstreams[0]
    assert _shares(pool, 10) == {"a:1": 10}
    first.active += 1
    pool.failed(first, clock.now, "refused")
    assert _shares(pool, 10) == {"b:1": 10}
    clock.now += FIRST_PAUSE
    probe = _taken(pool)
    assert probe is first
    pool.connected(probe)
    assert _shares(pool, 10) == {"a:1": 10}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_backup_gets_those_that_would_be_refused_since_all_others_are_full(policy: str) -> None:
    pool, _ = _pool(
        *(Upstream("a:1", max_active=2), Upstream("b:1", backup=True, max_active=3)), policy=policy
    )
    assert [_taken(pool).name for _ in range(5)] == ["a:1", "a:1", "b:1", "b:1", "b:1"]
    assert pool.take() is None
    pool.upstreams[0].connection_lost(None)
    assert _taken(pool).name == "a:1"


def test_a_backup_gets_nobody_who_can_wait_for_another() -> None:
    pool, _ = _pool("a:1", Upstream("b:1", backup=True), max_active=1, queue=1)
    assert _taken(pool).name == "a:1"
    assert pool.take() is None
    assert pool.is_busy()


def test_a_backup_that_rests_is_probed_where_all_others_are_full() -> None:
    pool, clock = _pool("a:1", Upstream("b:1", backup=True), max_active=1)
    backup = pool.upstreams[1]
    backup.active += 1
    pool.failed(backup, clock.now, "refused")
    clock.now += LONGEST_PAUSE
    assert [_taken(pool).name for _ in range(2)] == ["a:1", "b:1"]
    assert backup.probing


def test_a_backup_that_rests_is_not_probed_while_another_is_up() -> None:
    pool, clock = _pool("a:1", Upstream("b:1", backup=True))
    backup = pool.upstreams[1]
    backup.active += 1
    pool.failed(backup, clock.now, "refused")
    clock.now += LONGEST_PAUSE
    assert _shares(pool, 3) == {"a:1": 3}


@pytest.mark.parametrize("policy", POLICIES)
def test_one_that_was_taken_out_gets_nobody(policy: str) -> None:
    pool = Pool("a:1", Upstream("b:1", out=True), policy=policy)
    assert _shares(pool, 10) == {"a:1": 10}
    assert pool.stats()["b:1"].state == "out"
    pool.upstream("b:1").out = False
    pool.changed()
    assert set(_shares(pool, 100)) == ({"a:1", "b:1"} if policy != "first" else {"a:1"})


def test_where_all_are_out_nobody_is_taken() -> None:
    assert Pool(Upstream("a:1", out=True)).take() is None


def test_one_that_is_back_starts_slowly() -> None:
    pool, clock = _pool("a:1", "b:1", slow_start=10.0)
    assert set(_shares(pool, 20).values()) == {10}  # at the start nobody is back
    bad = _taken(pool)
    pool.failed(bad, clock.now, "refused")
    clock.now += FIRST_PAUSE
    probe = _taken(pool)
    pool.connected(probe)
    assert _shares(pool, 110)[bad.name] == 10  # a tenth of the other's
    clock.now += 5.0
    assert _shares(pool, 160)[bad.name] == 60
    clock.now += 5.0
    assert set(_shares(pool, 20).values()) == {10}


# -- those that come and go


def test_upstreams_come_and_go_while_it_runs() -> None:
    pool = Pool("a:1")
    pool.add("b:1")
    assert _shares(pool, 10) == {"a:1": 5, "b:1": 5}
    stays = pool.upstream("a:1")
    stays.active = 3
    assert pool.remove("a:1") is stays
    assert _shares(pool, 10) == {"b:1": 10}
    stays.connection_lost(None)  # its clients stayed with it
    assert stays.active == 2


def test_what_cannot_come_or_go_is_refused() -> None:
    pool = Pool("a:1")
    with pytest.raises(muxcore.AddressError, match="twice"):
        pool.add("a:1")
    with pytest.raises(LookupError, match="no upstream 'b:1': there are a:1"):
        pool.remove("b:1")
    with pytest.raises(ValueError, match="the last upstream"):
        pool.remove("a:1")
    with pytest.raises(ValueError, match="of another pool"):
        Pool(pool.upstream("a:1"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weight": 0}, "from 1 to 256"),
        ({"weight": 257}, "from 1 to 256"),
        ({"weight": 1.5}, "a whole number"),
        ({"max_active": 0}, "at least 1"),
    ],
)
def test_an_upstream_that_cannot_work_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Upstream("a:1", **options)


# -- the queue


def test_those_who_wait_are_called_in_turn_as_places_come_free() -> None:
    pool = Pool("a:1", max_active=1, queue=2)
    first = _taken(pool)
    called: list[str] = []
    assert pool.is_busy()
    assert pool.wait(lambda: called.append("one"))
    assert pool.wait(lambda: called.append("two"))
    assert not pool.wait(lambda: called.append("three"))  # the queue has an end
    assert pool.waiting == 2
    pool.left(first)
    assert called == ["one"]
    pool.take()
    first.connection_lost(None)
    assert called == ["one", "two"]


def test_who_waits_on_keeps_his_turn() -> None:
    pool = Pool("a:1", max_active=1, queue=1)
    first, called = _taken(pool), []

    def mine() -> None:
        called.append("mine")
        pool.wait(mine, first=True)

    pool.wait(mine)
    pool.left(first)
    first.active += 1
    pool.left(first)
    assert called == ["mine", "mine"]
    pool.give_up(mine)
    assert pool.waiting == 0


@pytest.mark.parametrize("how", ["recovered", "added"])
def test_one_that_comes_gives_its_places_to_all_who_wait(how: str) -> None:
    pool, _ = _pool("a:1", "b:1", max_active=2, queue=9)
    a, b = pool.upstreams
    pool.fails(b, "it is late")
    for _ in range(2):
        assert pool.take() is a
    served: list[str] = []
    for _ in range(3):
        pool.wait(_waits_on(pool, served))
    if how == "recovered":
        pool.recovered(b)
    else:
        pool.add("c:1")
    assert (len(served), pool.waiting) == (2, 1)


def _waits_on(pool: Pool, served: list[str]) -> Callable[[], None]:
    def look() -> None:
        if (taken := pool.take()) is not None:
            served.append(taken.name)
        else:
            pool.wait(look, first=True)

    return look


def test_it_is_known_for_how_long_one_is_up_or_is_not() -> None:
    pool, clock = _pool("a:1", "b:1")
    a, b = pool.upstreams

    def ago() -> list[float]:
        return [each.changed_ago for each in pool.stats().values()]

    clock.now += 5
    assert ago() == [5, 5]
    pool.fails(a, "late")
    clock.now += 2
    pool.fails(a, "late")
    a.out = True
    pool.changed()
    assert ago() == [2, 7]  # it served in none of its states since
    a.out = False
    pool.recovered(a)
    clock.now += 1
    pool.heard(b, "75%")
    assert ago() == [1, 8]
    pool.heard(b, "drain")
    pool.change("b:1", "c:1")
    clock.now += 4
    assert ago() == [4, 4]


def test_nobody_is_busy_who_is_not_up() -> None:
    pool, clock = _pool("a:1", max_active=1)
    only = _taken(pool)
    assert pool.is_busy()
    assert not pool.is_busy(tried=[only])
    pool.failed(only, clock.now, "refused")
    assert not pool.is_busy()


def test_a_queue_requires_timers() -> None:
    assert Pool("a:1", queue=1).requires == {"shared_state", "timers"}


def test_a_pool_is_made_anew_for_a_worker() -> None:
    pool = Pool(
        Upstream("a:1", weight=3, max_active=2, backup=True),
        "b:1",
        policy="two-random",
        max_active=9,
        queue=4,
        queue_timeout=1.5,
        slow_start=2.0,
        check=muxcore.Check(every=7),
    )
    pool.take()
    made = pickle.loads(pickle.dumps(pool))
    assert repr(made) == repr(pool)
    first, second = made.upstreams
    assert (first.weight, first.max_active, first.backup, first.out) == (3, 2, True, False)
    assert (second.weight, second.active) == (1, 0)
    for name in ("policy", "max_active", "queue", "queue_timeout", "slow_start", "check"):
        assert getattr(made, name) == getattr(pool, name)
    assert made.requires == pool.requires
