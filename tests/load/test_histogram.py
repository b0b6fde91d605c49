"""The histogram keeps what it promises: 1 % at most, mergeable, an exact maximum."""

from __future__ import annotations

import importlib
import itertools
import math
import random
from typing import Any

import pytest

from muxcore.load.generator import native_reason
from muxcore.load.histogram import BUCKETS, Histogram


def of(values: list[int]) -> Histogram:
    hist = Histogram()
    for value in values:
        hist.add(value)
    return hist


def test_a_percentile_is_at_most_one_percent_off_at_any_scale() -> None:
    rng = random.Random(1)
    for scale in (1, 100, 127, 128, 129, 10_000, 10**6, 10**9, 10**11):
        values = sorted(rng.randrange(scale, scale * 3 + 1) for _ in range(999))
        hist = of(values)
        for percent in (1, 50, 90, 99, 99.9):
            exact = values[math.ceil(len(values) * percent / 100) - 1]
            assert hist.percentile(percent) == pytest.approx(exact, rel=0.01)


def test_every_bucket_boundary_is_within_the_bound() -> None:
    for bits in range(40):
        for value in (2**bits - 1, 2**bits, 2**bits + 1):
            hist = of([value, value, 2**39])
            assert hist.percentile(50) == pytest.approx(value, rel=0.01, abs=0)


def test_the_maximum_is_exact() -> None:
    assert of([5, 123_456_789, 7]).percentile(100) == 123_456_789


def test_percentiles_never_pass_the_maximum() -> None:
    hist = of([1_000_003] * 100)
    assert hist.percentile(50) <= 1_000_003


def test_a_merged_histogram_is_that_of_all_values() -> None:
    rng = random.Random(2)
    left = [rng.randrange(10**7) for _ in range(500)]
    right = [rng.randrange(10**9) for _ in range(300)]
    merged = of(left)
    merged.merge(of(right))
    assert merged.counts == of(left + right).counts
    assert merged.max == max(left + right)


def test_buckets_rebuild_the_histogram() -> None:
    hist = of([1, 1, 500, 10**9])
    assert hist.buckets()[:2] == [(1, 2, 2), (500, 502, 1)]
    rebuilt = Histogram.from_buckets(hist.buckets(), hist.max)
    assert (rebuilt.counts, rebuilt.max) == (hist.counts, hist.max)


def test_the_bounds_of_the_buckets_leave_no_gap() -> None:
    bounds = [bucket[:2] for bucket in Histogram([1] * BUCKETS, 0).buckets()]
    assert bounds[0][0] == 0
    assert all(below == lowest for (_, below), (lowest, _) in itertools.pairwise(bounds))


def test_buckets_of_another_histogram_are_refused() -> None:
    with pytest.raises(ValueError, match="a bucket from 500 to 600 ns is none of"):
        Histogram.from_buckets([(500, 600, 1)], 600)


def test_what_was_counted_since_an_earlier_state_is_told_alone() -> None:
    hist = of([10, 20, 10**9])
    earlier = of([10, 20, 10**9])
    for value in (30, 40, 50):
        hist.add(value)
    later = hist.since(earlier)
    assert later.total == 3
    assert later.percentile(50) == 40
    assert later.percentile(100) == pytest.approx(50, abs=1)


def test_a_value_beyond_the_scale_is_counted_in_the_last_bucket() -> None:
    hist = of([2**50])
    assert hist.counts[BUCKETS - 1] == 1
    assert hist.percentile(100) == 2**50


def test_the_native_histogram_has_the_same_layout() -> None:
    if reason := native_reason():
        pytest.skip(reason)
    core: Any = importlib.import_module("muxcore.native._core")
    rng = random.Random(3)
    values = [rng.randrange(2 ** rng.randrange(1, 44)) for _ in range(2000)]
    native = core.ffi.new("mux_hist *")
    for value in values:
        core.lib.mux_hist_add(native, value)
    assert list(native.count) == of(values).counts
    assert native.max == max(values)


def test_an_empty_histogram_has_no_percentile() -> None:
    assert math.isnan(Histogram().percentile(50))


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_a_percentile_outside_its_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        Histogram().percentile(percent)


def test_counts_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="buckets"):
        Histogram([1, 2, 3])
