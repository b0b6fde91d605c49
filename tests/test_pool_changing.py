"""A pool that changes while it is used: what stays, what is applied, and what is refused whole."""

from __future__ import annotations

from typing import Any

import pytest

import muxcore
from muxcore.parts import checking
from muxcore.pool import Check, Pool, Upstream


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _pool(*upstreams: Any, **options: Any) -> Pool:
    return Pool(*upstreams, clock=_Clock(), spread=lambda: 0.5, **options)


def _taken(pool: Pool) -> Upstream:
    taken = pool.take()
    assert taken is not None
    return taken


def test_who_stays_is_known_as_before_and_its_clients_count() -> None:
    pool = _pool("a:1", "b:1")
    a, b = pool.upstreams
    pool.failed(_taken(pool), 1000.0, "refused")
    pool.connected(_taken(pool))
    assert (a.rests_until is None, b.active) == (False, 1)
    pool.change("b:1", "a:1", "c:1")
    assert pool.upstreams[:2] == (b, a)
    assert (a.rests_until is None, b.active, a.failed) == (False, 1, 1)
    assert _taken(pool).name in ("b:1", "c:1")


def test_an_upstream_of_its_own_stays_as_it_is_steered_and_an_address_is_set_back() -> None:
    pool = _pool(Upstream("a:1", weight=3), Upstream("b:1", weight=3))
    a, b = pool.upstreams
    a.out = b.out = True
    pool.change(a, Upstream("b:1", weight=5, max_active=2))
    assert (a.out, a.weight) == (True, 3)
    assert (b.out, b.weight, b.max_active) == (False, 5, 2)
    assert pool.upstreams == (a, b)


def test_settings_alone_leave_the_upstreams_and_those_that_are_not_named() -> None:
    pool = _pool("a:1", "b:1", queue=3, policy="least-connections")
    before = pool.upstreams
    pool.change(policy="round-robin", max_active=1)
    assert pool.upstreams == before
    assert (pool.policy, pool.queue, pool.max_active) == ("round-robin", 3, 1)
    assert {_taken(pool).name, _taken(pool).name} == {"a:1", "b:1"}
    assert pool.take() is None
    pool.change(queue=4)
    assert (pool.queue, pool.max_active) == (4, 1)


@pytest.mark.parametrize(
    ("upstreams", "settings", "error", "words"),
    [
        (("a:1", "a:1"), {}, muxcore.AddressError, "given twice"),
        (("c:1", "x"), {}, muxcore.AddressError, "has no port"),
        (("c:1",), {"queue": -1}, ValueError, "queue must be"),
        (("c:1",), {"policy": "best"}, ValueError, "policy must be one of"),
        (("c:1",), {"eject_after": 0}, ValueError, "eject_after must be"),
        (("c:1",), {"colour": 1}, TypeError, "colour"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_has_changed(
    upstreams: Any, settings: Any, error: type[Exception], words: str
) -> None:
    pool = _pool("a:1", "b:1", queue=3, eject_after=2)
    before = dict(vars(pool))
    with pytest.raises(error, match=words):
        pool.change(*upstreams, **settings)
    assert vars(pool) == before


def test_who_waits_has_the_place_that_a_change_makes() -> None:
    pool = _pool("a:1", max_active=1, queue=5)
    first = _taken(pool)
    served: list[Upstream | None] = []
    for _ in range(2):
        assert pool.wait(lambda: served.append(pool.take()))
    pool.change("a:1", "b:1")
    assert [each and each.name for each in served] == ["b:1", None]
    assert first.active == 1


def test_a_client_that_leaves_frees_a_place_of_the_changed_pool() -> None:
    pool = _pool("a:1", max_active=1, queue=5)
    pool.change("b:1", "a:1")
    pool.take()
    last = _taken(pool)
    called: list[bool] = []
    pool.wait(lambda: called.append(True))
    last.connection_lost(None)
    assert called == [True]


def test_other_checks_begin_with_all_and_equal_ones_only_with_those_that_are_new() -> None:
    pool = _pool("a:1", check=Check(every=1))
    begun: list[str] = []
    pool.on_added = lambda upstream: begun.append(upstream.name)
    first = pool.check
    pool.change("a:1", "b:1", check=Check(every=1))
    assert (begun, pool.check is first) == (["b:1"], True)
    pool.change(check=Check(every=2))
    assert begun == ["b:1", "a:1", "b:1"]


def test_who_is_failing_by_a_check_that_is_no_more_is_up() -> None:
    pool = _pool("a:1", "b:1", check=Check(agent=9))
    a = pool.upstreams[0]
    pool.fails(a, "it is late")
    a.percent, a.said, a.withdrawn = 0, "its agent says down", "its agent says maint"
    pool.change(check=Check(every=9))
    assert (a.failing, a.is_up, a.percent) == ("it is late", False, 100)
    pool.change(check=None)
    assert a.is_up


def test_trials_that_change_keep_what_they_know_and_those_that_end_eject_nobody() -> None:
    pool = _pool("a:1", "b:1", "c:1", eject_after=3)
    trials = pool.trials
    assert trials is not None
    a, b, _ = pool.upstreams
    for _ in range(2):
        trials.unanswered(a, 1000.0, "reset")
    pool.change(eject_after=2)
    assert pool.trials is trials
    trials.unanswered(a, 1000.0, "reset")
    assert a.ejected
    pool.change(eject_after=None)
    assert (pool.trials, a.ejected, a.rests_until is None) == (None, False, False)
    for _ in range(9):
        trials.unanswered(b, 1000.0, "reset")  # a client that was on trial before
    assert not b.ejected
    pool.change(eject_after=1, first_byte_timeout=3)
    assert pool.trials is not None
    pool.trials.unanswered(b, 1000.0, "reset")
    assert b.ejected


class _Engine:
    """Keeps what is to be called later, and what is connected to."""

    def __init__(self) -> None:
        self.later: list[Any] = []
        self.asked: list[str] = []

    def call_later(self, delay: float, call: Any, *args: Any) -> Any:
        self.later.append((call, args))
        return self

    def connect(self, where: Any, service: Any, timeout: float | None = None) -> Any:
        self.asked.append(str(where))
        self.protocol = service()
        return self

    def cancel(self) -> None: ...

    def run(self) -> list[str]:
        """Make the calls that are due, and return who was asked."""
        due, self.later, self.asked = self.later, [], []
        for call, args in due:
            call(*args)
        return self.asked


def test_checks_that_are_no_more_end_and_what_is_on_its_way_tells_nothing() -> None:
    pool, engine = _pool("a:1", "b:1", check=Check(fall=1)), _Engine()
    checking.begin(pool, engine)
    assert engine.run() == ["a:1", "b:1"]
    pool.change(check=None)
    engine.protocol.connection_lost(ConnectionRefusedError(111, "refused"))
    assert pool.upstreams[1].is_up
    engine.later = [each for each in engine.later if each[0].__name__ != "_late"]
    assert engine.run() == []
    pool.change(check=Check(every=5))
    assert engine.run() == ["a:1", "b:1"]
