"""Upstreams that get so many new clients a second; the clock is the test's."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import muxcore
from muxcore.parts.searching import Search
from muxcore.pool import Pool, Upstream
from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream as Listener


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pool_of(*upstreams: Any, **options: Any) -> tuple[Pool, Clock]:
    clock = Clock()
    return Pool(*upstreams, clock=clock, spread=lambda: 0.5, **options), clock


def names(pool: Pool, count: int) -> list[str | None]:
    return [taken.name if (taken := pool.take()) else None for _ in range(count)]


def test_one_at_its_rate_has_no_room_and_the_others_get_its_clients() -> None:
    pool, clock = pool_of(Upstream("a:1", rate=1), "b:1", "c:1")
    assert set(names(pool, 3)) == {"a:1", "b:1", "c:1"}
    assert set(names(pool, 8)) == {"b:1", "c:1"}
    assert pool.full() == 1
    clock.now += 1
    assert "a:1" in names(pool, 3)


def test_the_pools_rate_is_each_upstreams_unless_that_has_its_own() -> None:
    pool, clock = pool_of("a:1", Upstream("b:1", rate=3), rate=2)
    taken = names(pool, 6)
    assert sorted(map(str, taken)) == ["None", "a:1", "a:1", "b:1", "b:1", "b:1"]
    clock.now += 0.5
    assert sorted(map(str, names(pool, 3))) == ["None", "a:1", "b:1"]


def test_one_that_rests_is_probed_at_its_rate_alone() -> None:
    pool, clock = pool_of(Upstream("a:1", rate=0.1))
    taken = pool.take()
    assert taken is not None
    pool.failed(taken, clock.now, "it is down")
    clock.now += 5
    assert pool.take() is None
    clock.now += 5
    assert pool.take() is taken


def test_a_rate_needs_all_clients_in_one_process_and_a_worker_keeps_it() -> None:
    pool, _ = pool_of(Upstream("a:1", rate=5), "b:1")
    assert "shared_state" in pool.requires
    assert "shared_state" in Pool("a:1", rate=5).requires
    assert "shared_state" not in Pool("a:1").requires
    made = pickle.loads(pickle.dumps(Pool(Upstream("a:1", rate=5), "b:1", rate=7)))
    assert [each.pace and each.pace.rate for each in made.upstreams] == [5, None]
    assert made.pace.rate == 7


class Engine:
    """Keeps what is asked of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[Any] = []
        self.timers: list[tuple[float, Any, tuple[Any, ...]]] = []

    def connect(self, where: Any, service: Any, timeout: float | None = None, /) -> Any:
        self.asked.append(service)
        return Handle()

    def call_later(self, delay: float, call: Any, /, *args: Any) -> Any:
        timer = (self.clock.now + delay, call, args)
        self.timers.append(timer)
        return Handle(lambda: self.timers.remove(timer))

    def pass_time(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while due := [each for each in self.timers if each[0] <= until]:
            timer = min(due, key=lambda each: each[0])
            self.timers.remove(timer)
            self.clock.now = max(self.clock.now, timer[0])
            timer[1](*timer[2])
        self.clock.now = until


class Handle:
    def __init__(self, cancel: Any = lambda: None) -> None:
        self._cancel = cancel

    def cancel(self) -> None:
        self._cancel()


class Clients:
    """Searches for clients, and what has become of them."""

    def __init__(self, *upstreams: Any, **options: Any) -> None:
        self.pool, self.clock = pool_of(*upstreams, **options)
        self.engine = Engine(self.clock)
        self.failed: list[BaseException] = []

    def come(self, count: int) -> list[Search]:
        given = (self.pool, self.engine, lambda transport, lease: None, self.failed.append)
        return [Search(*given) for _ in range(count)]


def test_those_who_wait_go_on_when_tokens_are_there_in_turn() -> None:
    clients = Clients("a:1", rate=2, queue=10, queue_timeout=60)
    searches = clients.come(7)
    engine = clients.engine
    assert engine.asked == searches[:2]
    for step in range(1, 6):
        engine.pass_time(0.5)
        assert engine.asked == searches[: 2 + step]
    assert clients.pool.waiting == 0
    assert engine.timers == []
    searches += clients.come(3)  # and others, later on
    engine.pass_time(1.5)
    assert engine.asked == searches
    assert engine.timers == []
    assert clients.failed == []


def test_a_rate_that_is_raised_holds_at_once() -> None:
    pool, clock = pool_of(Upstream("a:1", rate=0.001))
    assert names(pool, 2) == ["a:1", None]
    pool.upstreams[0].rate = 10
    pool.changed()
    assert names(pool, 1) == [None]
    clock.now += 0.2
    assert names(pool, 3) == ["a:1", "a:1", None]


def test_nobody_waits_longer_than_the_queues_time() -> None:
    clients = Clients("a:1", rate=0.5, queue=10, queue_timeout=3)
    searches = clients.come(4)
    clients.engine.pass_time(10)
    assert clients.engine.asked == searches[:2]
    assert len(clients.failed) == 2
    assert "no place came free within 3 s" in str(clients.failed[0])
    assert clients.engine.timers == []


def test_without_a_queue_or_beyond_it_a_client_is_refused() -> None:
    clients = Clients("a:1", rate=1)
    clients.come(1)
    with pytest.raises(muxcore.NoUpstream, match="1 already with max_active clients, or at their"):
        clients.come(1)


def test_a_token_that_does_not_help_whoever_is_first_keeps_nobody_busy() -> None:
    pool, _ = pool_of("a:1", rate=5, queue=10)
    called = []

    def waits_on() -> None:
        called.append(pool.wait(waits_on, first=True))

    pool.wait(waits_on)
    pool.wait(waits_on)
    assert pool.wake_paced() == 0.01
    assert called == [True]
    assert pool.waiting == 2


def test_a_relay_lets_clients_wait_for_the_rate_on_a_real_engine() -> None:
    with Listener() as upstream:
        pool = muxcore.Pool(upstream.address, rate=20, queue=50, queue_timeout=60)
        with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0") as server:
            peers = [Peer(server.addresses[0]) for _ in range(23)]
            there = [upstream.accept() for _ in peers]
            for each in there:
                each.send(b"x")
            for peer in peers:
                assert peer.read(1) == b"x"
            for each in (*there, *peers):
                each.close()
    assert pool.upstreams[0].total == 23
    assert pool.waiting == 0
