"""New connections a second, by a clock that is the test's."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import muxcore
from muxcore.pool.pace import FASTEST, Pace, checked_rate


def taken(pace: Pace, full_at: float, now: float) -> tuple[int, float]:
    """Take all tokens that are there; return how many those were, and when it is full again."""
    count = 0
    while not pace.wait(full_at, now):
        full_at = pace.taken(full_at, now)
        count += 1
    return count, full_at


@pytest.mark.parametrize(
    ("rate", "at_once"), [(1, 1), (2, 2), (3, 3), (7.5, 7), (100, 100), (0.5, 1), (0.01, 1)]
)
def test_at_once_come_a_seconds_worth_and_one_at_least(rate: float, at_once: int) -> None:
    assert taken(Pace(rate), -math.inf, 123456.789)[0] == at_once


@given(st.floats(0.01, 10_000), st.floats(0, 1e7), st.lists(st.floats(0, 3), max_size=30))
def test_in_any_time_no_more_come_than_the_rate_and_a_burst(
    rate: float, now: float, steps: list[float]
) -> None:
    pace, full_at, came, began = Pace(rate), -math.inf, 0, now
    for step in steps:
        now += step
        if not pace.wait(full_at, now):
            full_at = pace.taken(full_at, now)
            came += 1
    assert came <= rate * (now - began) * 1.001 + max(1, rate) + 0.001


@given(st.floats(0.01, 1000), st.floats(0, 1e6))
def test_who_waits_as_long_as_it_is_told_has_a_token_and_not_much_sooner(
    rate: float, now: float
) -> None:
    pace = Pace(rate)
    _, full_at = taken(pace, -math.inf, now)
    wait = pace.wait(full_at, now)
    assert 0 < wait <= (1 + 2e-3) / rate + 1e-6  # a token may be taken a thousandth too early
    assert wait < 0.01 / rate or pace.wait(full_at, now + 0.5 * wait)
    assert not pace.wait(full_at, now + wait)


def test_a_rate_that_is_raised_does_not_leave_anybody_waiting_for_the_old_one() -> None:
    _, full_at = taken(Pace(0.001), -math.inf, 10.0)
    assert full_at == 1010.0
    fast = Pace(10)
    full_at = fast.at_latest(full_at, 10.0)
    assert taken(fast, full_at, 10.0)[0] == 0  # an empty bucket, and no emptier
    assert fast.wait(full_at, 10.0) == pytest.approx(0.1)
    assert taken(fast, fast.at_latest(full_at, 10.5), 10.5)[0] == 5


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan, FASTEST + 1, "3", True])
def test_a_rate_that_cannot_be_is_refused_by_its_name(rate: Any) -> None:
    for make in (
        lambda: muxcore.Pool("a:1", rate=rate),
        lambda: muxcore.Upstream("a:1", rate=rate),
        lambda: muxcore.Guard(muxcore.Echo, rate=rate),
    ):
        with pytest.raises(ValueError, match=r"\(rate=.*rate must be connections a second"):
            make()
    assert checked_rate("Pool", "rate", None) is None
