"""When a process that has died is replaced: at once, after a pause, or never."""

from __future__ import annotations

from muxcore.workers.replacing import FIRST_PAUSE, MOST, SOON, Replacing


def test_one_that_has_served_for_a_while_is_replaced_at_once_every_time() -> None:
    deaths = Replacing()
    assert [deaths.pause(SOON) for _ in range(2 * MOST)] == [0.0] * (2 * MOST)


def test_the_first_early_death_is_an_accident_and_then_pauses_grow_to_the_end() -> None:
    deaths = Replacing()
    pauses = [deaths.pause(None) for _ in range(MOST)]
    assert pauses == [0.0, *(FIRST_PAUSE * 2**n for n in range(MOST - 2)), None]


def test_a_death_soon_after_it_was_ready_is_an_early_one() -> None:
    deaths = Replacing()
    assert [deaths.pause(SOON / 2) for _ in range(MOST)][-1] is None


def test_one_that_lives_long_enough_ends_the_row() -> None:
    deaths = Replacing()
    for _ in range(MOST - 1):
        deaths.pause(None)
    assert deaths.pause(SOON) == 0.0
    assert deaths.pause(None) == 0.0
