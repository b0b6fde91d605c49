"""Buckets of the engines in Python, by a clock of the test's own; C's: tests/native/unit_rate.c."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from muxcore import Rate
from muxcore.parts import rates
from muxcore.parts.rates import Bucket, Limited


class Alarm:
    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """An engine that is nothing but a clock and its alarms."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alarms: list[Alarm] = []
        self.turns: list[int] = []  # who had one

    def alarm(self, delay: float, call: Callable[[], object]) -> Alarm:
        self.alarms.append(Alarm(self.now + delay, call))
        return self.alarms[-1]

    def due(self) -> float:
        return min(each.when for each in self.alarms if not each.cancelled)

    def run_until(self, now: float) -> None:
        """Let time pass, and make the calls that are due by then."""
        self.now = now
        due = [each for each in self.alarms if each.when <= now and not each.cancelled]
        self.alarms = [each for each in self.alarms if each not in due]
        for each in due:
            each.call()

    def limited(self, number: int, *buckets: Bucket) -> Limited:
        return Limited(buckets, lambda: self.turns.append(number))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rates, "monotonic", lambda: made.now)
    return made


def take(who: Limited, size: int) -> int:
    room = who.room(size)
    if room:
        who.spend(room)
    return room


def test_a_burst_is_all_that_is_saved_up(clock: Clock) -> None:
    who = clock.limited(0, Bucket(clock, Rate(1000, 100)))
    for clock.now in (0.0, 10.0, 1000.0):
        assert take(who, 60) == 60
        assert take(who, 60) == 0  # 40 are less than a quantum
        clock.run_until(clock.due())
        assert take(who, 60) == 50


def test_who_waits_is_not_overtaken_and_a_turn_in_vain_is_the_first_again(clock: Clock) -> None:
    bucket = Bucket(clock, Rate(1000, 100))
    who = [clock.limited(number, bucket) for number in range(3)]
    assert take(who[0], 100) == 100
    assert take(who[1], 100) == 0
    clock.now = 1.0
    assert take(who[2], 100) == 0  # there is enough, and it is for another
    clock.run_until(1.0)
    assert clock.turns == [1, 2]
    assert take(who[0], 100) == 100  # an event came first
    assert take(who[0], 100) == 0
    assert take(who[2], 100) == 0
    clock.run_until(1.06)
    clock.run_until(1.12)
    clock.run_until(1.18)
    assert clock.turns[2:4] == [2, 0]
    assert take(who[2], 100) == 50  # its share


def test_what_a_turn_leaves_is_the_next_ones_at_once(clock: Clock) -> None:
    bucket = Bucket(clock, Rate(1000, 100))
    who = [clock.limited(number, bucket) for number in range(3)]
    assert [take(each, 100) for each in who] == [100, 0, 0]
    clock.run_until(0.051)
    assert clock.turns == [1]
    assert clock.due() > 0.099
    assert take(who[1], 10) == 10
    assert clock.due() == pytest.approx(0.060, abs=1e-4)


def test_of_several_rates_the_scarcest_counts(clock: Clock) -> None:
    wide, narrow = Bucket(clock, Rate(1000, 1000)), Bucket(clock, Rate(1000, 100))
    both, one = clock.limited(0, wide, narrow), clock.limited(1, wide)
    assert take(both, 500) == 100
    assert take(both, 500) == 0
    assert take(one, 1000) == 900
    clock.run_until(0.2)
    assert clock.turns == []  # it has its turn in one, and the other is used up by now
    clock.run_until(0.6)
    assert clock.turns == [0]
    assert take(both, 500) == 100


def test_a_smaller_burst_caps_what_was_saved_up(clock: Clock) -> None:
    bucket = Bucket(clock, Rate(1000, 100))
    bucket.change(1000, 10)
    assert take(clock.limited(0, bucket), 100) == 10
