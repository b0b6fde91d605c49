"""Judging by time: a fault is told, a machine that stood still is not."""

from __future__ import annotations

import threading

import pytest

from muxcore.testing import patience


class Clock:
    """A clock that a test sets; a sleep moves it by so many times what was asked for."""

    def __init__(self, slower: float = 1.0) -> None:
        self.now = 0.0
        self._slower = slower

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds * self._slower


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return _taken(monkeypatch, Clock())


def _taken(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    monkeypatch.setattr(patience, "time", clock)
    return clock


def _tries(clock: Clock, error: Exception, *gaps: float, fails: int = 99, end: int = 99) -> int:
    """Let a peer act after each gap, and fail then; return in how many tries it did not.

    Args:
        fails: how many tries do.
        end: the number of the gap before which its pace ends.
    """
    tries = 0
    for pace in patience.paced(1.0):
        tries += 1
        with pace:
            for number, gap in enumerate(gaps):
                if number == end:
                    pace.end()
                clock.now += gap
                if number < len(gaps) - 1:
                    pace.step()
            if tries <= fails:
                raise error
    return tries


def test_a_failure_of_a_peer_that_kept_its_pace_is_told_at_once(clock: Clock) -> None:
    with pytest.raises(ConnectionResetError):
        _tries(clock, ConnectionResetError(), 0.4, 0.4, 0.4, 0.4, fails=1)


@pytest.mark.parametrize("error", [ConnectionResetError(), AssertionError()], ids=repr)
def test_a_failure_of_a_peer_that_was_held_up_is_tried_again(
    clock: Clock, error: Exception
) -> None:
    assert _tries(clock, error, 0.1, 1.0, 0.1, fails=2) == 3


def test_a_pause_between_the_engines_events_is_seen_where_two_steps_share_it(
    clock: Clock,
) -> None:
    # the engine's event came at the beginning of the first, the next one at the end of the second
    assert _tries(clock, ConnectionResetError(), 0.6, 0.6, fails=1) == 2


def test_time_after_the_end_of_a_pace_does_not_count(clock: Clock) -> None:
    with pytest.raises(ConnectionResetError):
        _tries(clock, ConnectionResetError(), 0.1, 60, fails=1, end=1)


def test_an_error_of_the_test_itself_is_told_whatever_the_machine_did(clock: Clock) -> None:
    with pytest.raises(LookupError):
        _tries(clock, LookupError(), 60, fails=1)


def test_a_peer_that_is_held_up_each_time_has_proven_nothing(clock: Clock) -> None:
    with pytest.raises(AssertionError, match=r"held up for 1 s in each of 12 tries"):
        _tries(clock, ConnectionResetError(), 1.0)


@pytest.mark.parametrize(("slower", "least"), [(1, 1.0), (5, 1.0), (1000, 100.0)])
def test_soon_is_counted_in_time_at_work(
    monkeypatch: pytest.MonkeyPatch, slower: float, least: float
) -> None:
    clock = _taken(monkeypatch, Clock(slower))
    with pytest.raises(AssertionError, match="not within 1 s: it ends"):
        patience.soon(lambda: False, "it ends", 1.0)
    assert clock.now >= least


def test_a_call_that_is_in_time_returns_what_it_returns() -> None:
    def fail() -> None:
        raise LookupError

    assert patience.within(patience.SOON, lambda: 3, "it returns") == 3
    with pytest.raises(LookupError):
        patience.within(patience.SOON, fail, "it returns")


def test_a_call_that_does_not_return_in_time_is_told() -> None:
    release = threading.Event()
    try:
        with pytest.raises(AssertionError, match=r"not within 0\.05 s: it returns"):
            patience.within(0.05, release.wait, "it returns")
    finally:
        release.set()
