"""Timers: order, cancelling, the cap, and a heap that does not grow with what was cancelled.

Time is a number here that the tests move.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxcore.parts import timers as timers_module
from muxcore.parts.timers import Timer, Timers


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timers_module, "time", clock)
    return clock


@pytest.fixture
def timers(clock: Clock) -> Timers:
    return Timers(cap=1_000)


def test_calls_run_when_they_are_due_in_the_order_of_their_times(
    timers: Timers, clock: Clock
) -> None:
    ran: list[str] = []
    timers.add(3, ran.append, "third")
    timers.add(1, ran.append, "first")
    timers.add(2, ran.append, "second")
    assert (timers.delay(), len(timers)) == (1, 3)
    timers.run_due()
    assert ran == []
    clock.now += 2
    assert timers.delay() == 0
    timers.run_due()
    assert ran == ["first", "second"]
    clock.now += 100
    timers.run_due()
    assert ran == ["first", "second", "third"]
    assert (timers.delay(), len(timers)) == (None, 0)


def test_calls_of_one_time_run_in_the_order_they_were_set(timers: Timers, clock: Clock) -> None:
    ran: list[int] = []
    for number in range(100):
        timers.add(1, ran.append, number)
    clock.now += 1
    timers.run_due()
    assert ran == list(range(100))


def test_a_delay_below_zero_is_now(timers: Timers, clock: Clock) -> None:
    ran: list[int] = []
    timers.add(-5, ran.append, 1)
    assert timers.delay() == 0
    timers.run_due()
    assert ran == [1]


@pytest.mark.parametrize("delay", [math.inf, -math.inf, math.nan])
def test_a_delay_that_is_no_time_is_refused(timers: Timers, delay: float) -> None:
    with pytest.raises(ValueError, match=r"call_later\(\) needs finite seconds"):
        timers.add(delay, print)


@pytest.mark.parametrize("delay", ["3", None, b"3", True, [3]], ids=repr)
def test_a_delay_that_is_no_number_is_refused_and_counts_for_nothing(delay: Any) -> None:
    timers = Timers(cap=1)
    with pytest.raises(TypeError, match=r"call_later\(\) needs a number of seconds"):
        timers.add(delay, print)
    timers.add(1, print)


@pytest.mark.parametrize("delay", [30 * 86_400, 1e10, 1e300, 10**400], ids=["a month", *"abc"])
def test_nobody_is_told_to_wait_for_more_than_a_day_however_late_a_call_is_due(
    timers: Timers, delay: float
) -> None:
    timers.add(delay, print)
    assert timers.delay() == 86_400


def test_a_call_that_is_due_in_a_month_is_made_then(timers: Timers, clock: Clock) -> None:
    ran: list[int] = []
    timers.add(30 * 86_400, ran.append, 1)
    for _ in range(29):
        clock.now += 86_400
        timers.run_due()
    assert ran == []
    clock.now += 86_400
    timers.run_due()
    assert ran == [1]


def test_what_a_call_adds_waits_for_the_next_turn(timers: Timers, clock: Clock) -> None:
    ran: list[str] = []

    def again() -> None:
        ran.append("again")
        timers.add(0, again)

    timers.add(0, again)
    timers.add(0, ran.append, "other")
    timers.run_due()  # ends, and is not kept busy by a call that sets itself again
    assert ran == ["again", "other"]
    timers.run_due()
    assert ran == ["again", "other", "again"]


def test_a_cancelled_call_is_never_made(timers: Timers, clock: Clock) -> None:
    ran: list[int] = []
    first, second = timers.add(1, ran.append, 1), timers.add(2, ran.append, 2)
    first.cancel()
    first.cancel()
    assert first.cancelled()
    assert (timers.delay(), len(timers)) == (2, 1)
    clock.now += 5
    timers.run_due()
    assert ran == [2]
    assert second.cancelled()
    second.cancel()  # harmless after the call was made
    assert len(timers) == 0


def test_a_call_may_cancel_one_that_is_due_in_the_same_turn(timers: Timers, clock: Clock) -> None:
    ran: list[str] = []
    timers.add(1, lambda: second.cancel())
    second = timers.add(1, ran.append, "second")
    timers.add(1, ran.append, "third")
    clock.now += 1
    timers.run_due()
    assert (ran, len(timers)) == (["third"], 0)


def test_a_call_that_fails_is_logged_and_the_others_are_made(
    timers: Timers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    timers.add(0, lambda: 1 / 0)
    timers.add(0, ran.append, 1)
    with caplog.at_level(logging.ERROR, "muxcore"):
        timers.run_due()
    assert ran == [1]
    assert "ZeroDivisionError" in caplog.text


def test_the_cap_counts_what_is_pending_not_what_was_cancelled(clock: Clock) -> None:
    timers = Timers(cap=2)
    first = timers.add(1, print)
    timers.add(1, print)
    with pytest.raises(RuntimeError, match=r"2 timers are pending: .* Limits\.timers"):
        timers.add(1, print)
    first.cancel()
    timers.add(1, print)
    timers.add_own(1, print)  # the engine's own are not asked
    clock.now += 1
    timers.run_due()
    timers.add(1, print)


def test_a_timeout_set_and_cancelled_for_each_message_keeps_the_heap_small(
    timers: Timers,
) -> None:
    kept = [timers.add(50, print) for _ in range(10)]
    for _ in range(100_000):
        timers.add(60, print).cancel()
    assert len(timers.heap) < 200
    assert len(timers) == len(kept)


def test_cleared_timers_are_never_made_and_hold_nothing(timers: Timers, clock: Clock) -> None:
    ran: list[int] = []
    timer = timers.add(1, ran.append, 1)
    timers.clear()
    assert (timers.delay(), len(timers), timer.cancelled()) == (None, 0, True)
    timer.cancel()
    assert len(timers) == 0
    clock.now += 5
    timers.run_due()
    assert ran == []


_STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 5)),
    st.tuples(st.just("cancel"), st.integers(0, 300)),
    st.tuples(st.just("pass"), st.integers(1, 3)),
)


@given(st.lists(_STEPS, max_size=300))
def test_any_course_is_that_of_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    clock, ran = Clock(), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timers_module, "time", clock)
        timers = Timers(cap=1_000)
        made: list[Timer] = []
        pending: dict[int, float] = {}
        for step, value in steps:
            if step == "add":
                pending[len(made)] = clock.now + value
                made.append(timers.add(value, ran.append, len(made)))
            elif step == "cancel" and made:
                made[value % len(made)].cancel()
                pending.pop(value % len(made), None)
            elif step == "pass":
                clock.now += value
                due = sorted((when, n) for n, when in pending.items() if when <= clock.now)
                pending = {n: when for n, when in pending.items() if when > clock.now}
                ran.clear()
                timers.run_due()
                assert ran == [n for _, n in due]
            assert len(timers) == len(pending)
            next_due = min(pending.values(), default=None)
            assert timers.delay() == (None if next_due is None else max(0, next_due - clock.now))
