"""A search in a pool, turn by turn: what is tried, who is told, and what is counted."""

from __future__ import annotations

import errno
import gc
import weakref
from typing import Any

import pytest

import muxcore
from muxcore.address import Address
from muxcore.parts.searching import Search
from muxcore.pool import Pool, Trial, Upstream


class Handle:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class Engine:
    """Connects when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float | None]] = []
        self.sides = 0  # of them without a transport of their own
        self.handle = Handle()

    def connect(self, where: Address, service: Any, timeout: float | None = None, /) -> Handle:
        if timeout is not None and timeout < 0:
            raise ValueError("it is no time")
        self.asked.append((str(where), timeout))
        self.service = service
        self.handle = Handle()
        return self.handle

    def connect_side(self, *how: Any) -> Handle:
        self.sides += 1
        return self.connect(*how)

    def call_later(self, delay: float, call: Any, /, *args: Any) -> Handle:
        self.patience = (delay, call)
        self.timer = Handle()
        return self.timer

    def connects(self) -> Transport:
        transport = Transport()
        self.service().connection_made(transport)
        return transport

    def fails(self, number: int = errno.ECONNREFUSED) -> None:
        self.service().connection_lost(OSError(number, f"failed with {number}"))


class Transport:
    protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class Caller:
    """Who searches, and what it hears."""

    def __init__(self, *upstreams: str, **options: Any) -> None:
        self.pool = Pool(*upstreams, **options)
        self.engine = Engine()
        self.found: list[tuple[Any, Upstream]] = []
        self.failed: list[BaseException] = []

    def search(self, **options: Any) -> Search:
        return Search(self.pool, self.engine, self._found, self.failed.append, **options)

    def _found(self, transport: Any, upstream: Upstream) -> None:
        assert transport.protocol is upstream
        assert upstream.total  # the pool knows
        self.found.append((transport, upstream))

    def active(self) -> list[int]:
        return [upstream.active for upstream in self.pool.upstreams]


def test_the_first_that_is_connected_is_found_and_counts_its_end() -> None:
    caller = Caller("a:1", "b:1")
    search = caller.search()
    assert caller.found == []
    caller.engine.fails()
    transport = caller.engine.connects()
    upstream = caller.pool.upstreams[1]
    assert caller.found == [(transport, upstream)]
    assert caller.active() == [0, 1]
    assert search.reasons == (("a:1", f"failed with {errno.ECONNREFUSED}"),)
    search.cancel()  # too late
    assert caller.active() == [0, 1]
    transport.protocol.connection_lost(None)
    assert caller.active() == [0, 0]
    assert caller.failed == []


@pytest.mark.parametrize("tries", [1, 2, 3, 9])
def test_so_many_are_tried_and_then_it_has_failed(tries: int) -> None:
    caller = Caller("a:1", "b:1", "c:1", "d:1")
    caller.search(tries=tries)
    for _ in range(min(tries, 4)):
        assert caller.failed == []
        caller.engine.fails()
    (exc,) = caller.failed
    assert isinstance(exc, muxcore.NoUpstream)
    tried = [where for where, _ in exc.reasons]
    assert tried[0] == "a:1"
    assert len(tried) == len(set(tried)) == min(tries, 4)
    assert caller.active() == [0] * 4
    assert caller.found == []


@pytest.mark.parametrize("tries", [1, 4])
def test_a_pool_says_how_many_are_tried(tries: int) -> None:
    caller = Caller("a:1", "b:1", "c:1", "d:1", "e:1", tries=tries)
    caller.search()
    for _ in range(tries):
        assert caller.failed == []
        caller.engine.fails()
    (exc,) = caller.failed
    assert isinstance(exc, muxcore.NoUpstream)
    assert len(exc.reasons) == tries


def test_what_fails_here_costs_a_try_and_is_not_held_against_the_upstream() -> None:
    caller = Caller("a:1", "b:1")
    caller.search()
    caller.engine.fails(errno.EMFILE)
    caller.engine.fails(errno.EHOSTUNREACH)
    (exc,) = caller.failed
    assert isinstance(exc, muxcore.NoUpstream)
    assert [where for where, _ in exc.reasons] == ["a:1", "b:1"]
    assert [each.failed for each in caller.pool.upstreams] == [0, 1]
    assert [each.state for each in caller.pool.stats().values()] == ["up", "resting"]


def test_the_end_of_the_server_is_told_as_it_is_and_nothing_more_is_tried() -> None:
    caller = Caller("a:1", "b:1")
    search = caller.search()
    exc = ConnectionAbortedError(errno.ECONNABORTED, "the server is ending")
    caller.engine.service().connection_lost(exc)
    assert caller.failed == [exc]
    assert caller.engine.asked == [("a:1", None)]
    assert caller.active() == [0, 0]
    assert caller.pool.stats()["a:1"].failed == 0
    assert search.reasons == ()


def test_a_search_that_is_dropped_tells_nobody_and_is_counted_once() -> None:
    caller = Caller("a:1", "b:1")
    search = caller.search()
    caller.engine.fails()
    for _ in range(2):
        search.cancel()
    assert caller.engine.handle.cancelled == 1
    assert caller.active() == [0, 0]
    assert (caller.found, caller.failed) == ([], [])


def test_where_there_is_none_to_wait_for_it_is_raised_and_nobody_else_is_told() -> None:
    caller = Caller("a:1", "b:1", max_active=1)
    for each in caller.pool.upstreams:
        each.active = 1
    with pytest.raises(muxcore.NoUpstream, match="2 already with max_active clients") as caught:
        caller.search()
    assert caught.value.reasons == ()
    caller.pool.upstreams[0].active = 0
    caller.pool.upstreams[0].is_self = True
    with pytest.raises(muxcore.NoUpstream, match="a:1: it is this server itself") as caught:
        caller.search()
    assert len(caught.value.reasons) == 1
    assert caller.engine.asked == []
    assert caller.failed == []
    assert caller.active() == [0, 1]


def test_the_time_for_a_try_is_the_callers_or_else_the_pools() -> None:
    caller = Caller("a:1", connect_timeout=2)
    caller.search()
    caller.search(timeout=0.5)
    assert caller.engine.asked == [("a:1", 2), ("a:1", 0.5)]


def test_what_cannot_be_asked_for_is_refused_and_nothing_is_counted() -> None:
    caller = Caller("a:1")
    with pytest.raises(ValueError, match="no time"):
        caller.search(timeout=-1)
    with pytest.raises(ValueError, match="at least 1"):
        caller.search(tries=0)
    assert caller.active() == [0]


@pytest.mark.parametrize("end", ["found", "failed", "cancelled"])
def test_a_search_that_is_over_keeps_nobody(end: str) -> None:
    caller = Caller("a:1")
    search = caller.search()
    if end == "found":
        caller.engine.connects()
    elif end == "failed":
        caller.engine.fails()
    else:
        search.cancel()
    alive = weakref.ref(caller)
    gc.disable()
    try:
        del caller
        assert alive() is None, "the search keeps who asked for it"
    finally:
        gc.enable()


def test_who_is_on_the_way_when_a_pool_begins_to_try_is_not_on_trial() -> None:
    caller = Caller("a:1")
    caller.search(joins=True)
    caller.pool.change(eject_after=1)
    transport = caller.engine.connects()
    assert caller.found == [(transport, caller.pool.upstreams[0])]
    assert transport.protocol is caller.pool.upstreams[0]


def test_who_is_on_the_way_when_a_pool_begins_to_send_headers_sends_none() -> None:
    caller = Caller("a:1")
    caller.search(joins=True)
    caller.pool.change(send_proxy="v1")
    transport = caller.engine.connects()  # which has no write()
    assert caller.found == [(transport, caller.pool.upstreams[0])]


@pytest.mark.parametrize("waits", ["queue", "round"])
def test_who_waits_when_a_pool_begins_to_try_is_on_trial(waits: str) -> None:
    options = {"queue": {"max_active": 1, "queue": 1}, "round": {"retry_for": 3}}[waits]
    caller = Caller("a:1", **options)
    only = caller.pool.upstreams[0]
    trial: list[Any] = []
    if waits == "queue":
        caller.pool.take()
    Search(
        *(caller.pool, caller.engine, lambda _, lease: trial.append(lease), caller.failed.append),
        joins=True,
    )
    if waits == "round":
        caller.engine.fails()
    caller.pool.change(eject_after=1)
    caller.engine.sides = 0
    if waits == "queue":
        only.connection_lost(None)
    else:
        caller.engine.patience[1]()
    assert caller.engine.sides == 0
    caller.engine.connects()
    assert isinstance(trial[0], Trial)


# -- a place in the queue


def _waiting() -> tuple[Caller, Search, Upstream]:
    """Return a search that waits, and the upstream whose only place another client has."""
    caller = Caller("a:1", max_active=1, queue=1, queue_timeout=7)
    only = caller.pool.take()
    assert only is not None
    search = caller.search()
    assert caller.pool.waiting == 1
    assert caller.engine.asked == []
    return caller, search, only


def test_a_place_that_comes_free_is_taken() -> None:
    caller, _, only = _waiting()
    only.connection_lost(None)
    assert caller.engine.asked == [("a:1", None)]
    assert caller.engine.timer.cancelled == 1
    transport = caller.engine.connects()
    assert caller.found == [(transport, only)]
    assert only.active == 1


def test_who_has_waited_too_long_is_told_for_how_long() -> None:
    caller, _, _ = _waiting()
    delay, call = caller.engine.patience
    assert delay == 7
    call()
    (exc,) = caller.failed
    assert "no place came free within 7 s" in str(exc)
    assert caller.pool.waiting == 0


def test_a_search_that_is_dropped_waits_no_more() -> None:
    caller, search, only = _waiting()
    search.cancel()
    search.cancel()
    assert caller.pool.waiting == 0
    assert caller.engine.timer.cancelled == 1
    only.connection_lost(None)
    assert caller.engine.asked == []
    assert caller.failed == []


def test_who_wakes_and_finds_no_place_waits_on_with_the_time_that_is_left() -> None:
    caller, _, only = _waiting()
    patience = caller.engine.patience
    only.active += 1  # somebody else has it by then
    only.connection_lost(None)
    assert caller.pool.waiting == 1
    assert caller.engine.patience is patience  # no other timer is begun
    assert caller.engine.timer.cancelled == 0
    only.connection_lost(None)
    assert caller.engine.asked == [("a:1", None)]


def test_who_wakes_where_nothing_can_be_connected_is_told() -> None:
    caller, _, only = _waiting()

    def ending(*_: Any) -> Handle:
        raise OSError(errno.EAGAIN, "no more connections")

    caller.engine.connect = ending  # type: ignore[method-assign]
    only.connection_lost(None)
    (exc,) = caller.failed
    assert isinstance(exc, OSError)
    assert only.active == 0


# -- another round


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _patient(*upstreams: str, **options: Any) -> tuple[Caller, Clock]:
    clock = Clock()
    options = {"retry_for": 3, "clock": clock, "spread": lambda: 0.5} | options
    return Caller(*upstreams, **options), clock


def test_whom_nobody_takes_is_tried_again_until_its_time_is_over() -> None:
    caller, clock = _patient("a:1", "b:1")
    search = caller.search()
    for _ in range(2):
        for _ in range(2):
            caller.engine.fails()
        assert (caller.failed, caller.active()) == ([], [0, 0])
        delay, call = caller.engine.patience
        assert 0.4 < delay < 0.6
        clock.now += 1.5
        call()
    assert [where for where, _ in caller.engine.asked] == ["a:1", "b:1", "a:1", "b:1", "a:1"]
    for _ in range(2):
        caller.engine.fails()
    (exc,) = caller.failed
    assert isinstance(exc, muxcore.NoUpstream)
    assert [where for where, _ in exc.reasons] == ["a:1", "b:1", "a:1", "b:1"]  # of two rounds
    assert search.reasons == exc.reasons


def test_one_that_is_there_again_is_found_in_a_later_round() -> None:
    caller, clock = _patient("a:1")
    search = caller.search()
    caller.engine.fails()
    caller.engine.patience[1]()
    transport = caller.engine.connects()
    assert caller.found == [(transport, caller.pool.upstreams[0])]
    assert [each.why for each in search.tries] == [f"failed with {errno.ECONNREFUSED}"]
    clock.now += 99


def test_who_is_failing_or_out_may_be_back_in_time() -> None:
    caller, _ = _patient("a:1")
    only = caller.pool.upstreams[0]
    caller.pool.fails(only, "it is late")
    caller.search()
    assert caller.engine.asked == []
    caller.pool.recovered(only)
    caller.engine.patience[1]()
    assert caller.engine.asked == [("a:1", None)]


def test_who_is_full_is_for_the_queue_and_not_tried_again() -> None:
    caller, _ = _patient("a:1", max_active=1)
    only = caller.pool.take()
    assert only is not None
    with pytest.raises(muxcore.NoUpstream, match="1 already with"):
        caller.search()


def test_a_search_that_is_dropped_between_two_rounds_is_over() -> None:
    caller, _ = _patient("a:1")
    search = caller.search()
    caller.engine.fails()
    for _ in range(2):
        search.cancel()
    assert caller.engine.timer.cancelled == 1
    assert (caller.found, caller.failed, caller.active()) == ([], [], [0])


def test_where_the_server_ends_between_two_rounds_that_is_told() -> None:
    caller, _ = _patient("a:1")
    caller.search()
    caller.engine.fails()

    def ending(*_: Any) -> Handle:
        raise OSError(errno.ECONNABORTED, "the server is ending")

    caller.engine.connect = ending  # type: ignore[method-assign]
    caller.engine.patience[1]()
    (exc,) = caller.failed
    assert isinstance(exc, OSError)
    assert caller.active() == [0]


def test_who_waits_for_a_place_and_finds_nobody_is_tried_again() -> None:
    caller, _ = _patient("a:1", max_active=1, queue=1, queue_timeout=7)
    only = caller.pool.take()
    assert only is not None
    caller.search()
    queued = caller.engine.timer
    caller.pool.fails(only, "it is late")
    only.connection_lost(None)
    assert (caller.pool.waiting, queued.cancelled) == (0, 1)
    caller.pool.recovered(only)
    caller.engine.patience[1]()
    assert caller.engine.asked == [("a:1", None)]
