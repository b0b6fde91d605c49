"""What is planted is found and what is equal is called equal, on windows of a drifting machine."""

from __future__ import annotations

import math
import random

import pytest

from muxcore.compare.statistics import (
    Interval,
    corrected,
    judge,
    median_interval,
    ratios,
)

ROUNDS, BLOCKS = 150, 3
BLOCK_OF = {number: number * BLOCKS // ROUNDS for number in range(ROUNDS)}


def windows(rng: random.Random, speeds: list[float]) -> list[dict[int, float]]:
    """Return the rates of servers that run side by side on a machine that drifts and hiccups."""
    found: list[dict[int, float]] = [{} for _ in speeds]
    drift = 1.0
    starts: list[list[float]] = [[rng.gauss(1, 0.003) for _ in speeds] for _ in range(BLOCKS)]
    for number in range(ROUNDS):
        drift *= rng.gauss(1, 0.02)
        for i, speed in enumerate(speeds):
            noise = rng.gauss(1, 0.03) * (0.5 if rng.random() < 0.04 else 1.0)
            found[i][number] = 100_000 * drift * speed * noise * starts[BLOCK_OF[number]][i]
    return found


def verdict(seed: int, speed: float, comparisons: int = 20) -> str:
    one, other, twin = windows(random.Random(seed), [1.0, speed, 1.0])
    noise = median_interval(list(ratios(twin, one).values())).offset
    return judge(ratios(other, one), BLOCK_OF, noise, corrected(comparisons)).word


def test_a_planted_five_percent_is_found_in_18_of_20_runs() -> None:
    assert sum(verdict(seed, 0.95) == "less" for seed in range(20)) >= 18
    assert sum(verdict(seed, 1.05) == "more" for seed in range(20)) >= 18


def test_identical_servers_are_called_equal_in_19_of_20_runs() -> None:
    said = [verdict(seed, 1.0) for seed in range(100, 300)]
    assert said.count("no difference") >= 190
    assert said.count("more") + said.count("less") <= 2  # the 1 % that 99 % intervals allow


def test_a_start_that_was_lucky_once_is_not_taken_for_a_difference() -> None:
    by_round = {number: 1.06 if BLOCK_OF[number] < 2 else 0.99 for number in range(ROUNDS)}
    assert judge(by_round, BLOCK_OF, noise=1.0).word == "unclear"


@pytest.mark.parametrize(("unlucky", "word"), [(0, "more"), (1, "more"), (2, "unclear")])
def test_of_many_starts_one_in_six_may_point_the_other_way(unlucky: int, word: str) -> None:
    block_of = {number: number // 30 for number in range(210)}
    by_round = {n: 0.99 if block < unlucky else 1.06 for n, block in block_of.items()}
    assert judge(by_round, block_of, noise=1.0).word == word


def test_what_lies_off_1_and_beyond_the_noise_is_never_called_no_difference() -> None:
    for ratio in (1.03, 0.97):
        by_round = {number: ratio + number / 1e5 for number in range(ROUNDS)}
        assert judge(by_round, BLOCK_OF, noise=1.01).word in ("more", "less")


def test_nothing_is_claimed_within_the_noise_of_the_twin() -> None:
    by_round = dict.fromkeys(range(ROUNDS), 1.03)
    assert judge(by_round, BLOCK_OF, noise=1.04).word == "no difference"
    assert judge(by_round, BLOCK_OF, noise=1.02).word == "more"


def test_a_wide_interval_is_unclear_and_not_no_difference() -> None:
    rng = random.Random(4)
    by_round = {number: math.exp(rng.gauss(0, 1)) for number in range(ROUNDS)}
    assert judge(by_round, BLOCK_OF, noise=1.0).word == "unclear"


def test_too_few_rounds_are_said_to_be_too_few() -> None:
    assert judge({0: 2.0, 1: 2.0, 2: 2.0}, {0: 0, 1: 0, 2: 0}, 1.0).word == "too few rounds"


def test_without_a_twin_nothing_is_claimed() -> None:
    by_round = dict.fromkeys(range(ROUNDS), 3.0)
    assert judge(by_round, BLOCK_OF, Interval(-math.inf, 1.0, math.inf).offset).word == "unclear"


@pytest.mark.parametrize("count", [8, 21, 150, 151])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    rng = random.Random(count)
    held = 0
    for _ in range(1000):
        interval = median_interval([rng.expovariate(1) for _ in range(count)], 0.95)
        held += interval.low <= math.log(2) <= interval.high
    assert held >= 930


def test_the_interval_of_the_binomial_table_is_reproduced() -> None:
    # 20 values at 95 %: ranks 6 and 15, as in any table of order-statistic intervals.
    interval = median_interval(list(range(1, 21)), 0.95)
    assert (interval.low, interval.high) == (6, 15)


def test_few_values_have_no_interval() -> None:
    assert median_interval([1.0, 2.0], 0.99) == Interval(-math.inf, 1.5, math.inf)


def test_ratios_take_only_rounds_that_both_have() -> None:
    assert ratios({1: 2.0, 2: 3.0, 3: 0.0}, {2: 1.5, 3: 1.0, 4: 1.0}) == {2: 2.0}
