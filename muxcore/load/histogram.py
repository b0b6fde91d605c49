"""A log-linear histogram of times in nanoseconds; the layout is that of csrc/load/load_hist.h.

A value below 128 has a bucket of its own; above, each octave is cut into 128 buckets. A percentile
is the middle of its bucket, so it is at most 0.4 % off; the largest value is kept exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_BITS = 7  # 2^7 buckets an octave: the coarsest power of two within 1 %
_TOP = 40  # values have at most this many bits: 18 minutes
BUCKETS = (_TOP - _BITS + 1) << _BITS


class Histogram:
    """Counts of times, mergeable.

    Attributes:
        counts: one number per bucket.
        max: the largest value, in nanoseconds, exactly.
    """

    __slots__ = ("counts", "max")

    def __init__(self, counts: Sequence[int] = (), maximum: int = 0) -> None:
        if counts and len(counts) != BUCKETS:
            raise ValueError(f"a histogram has {BUCKETS} buckets, not {len(counts)}")
        self.counts = list(counts) or [0] * BUCKETS
        self.max = maximum

    def add(self, nanoseconds: int) -> None:
        """Count one value, in nanoseconds; a negative one counts as 0."""
        value = max(nanoseconds, 0)
        self.counts[_bucket(value)] += 1
        if value > self.max:
            self.max = value

    def copy(self) -> Histogram:
        """Return the same, which does not change with this one."""
        return Histogram(self.counts, self.max)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram to these."""
        for bucket, count in enumerate(other.counts):
            if count:
                self.counts[bucket] += count
        self.max = max(self.max, other.max)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile, in nanoseconds; NaN of an empty histogram.

        Args:
            percent: above 0, at most 100; 100 is the exact maximum.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile is above 0 and at most 100, not {percent!r}")
        total = self.total
        if not total:
            return math.nan
        rank = max(1, math.ceil(total * percent / 100 - 1e-9))
        if rank == total:
            return float(self.max)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                return min(_middle(bucket), float(self.max))
        raise AssertionError("the counts do not add up to their total")

    def since(self, earlier: Histogram) -> Histogram:
        """Return what was counted after another state of this histogram; its max is a bucket's."""
        counts = [now - then for now, then in zip(self.counts, earlier.counts, strict=True)]
        last = max((bucket for bucket, count in enumerate(counts) if count), default=-1)
        return Histogram(counts, _bounds(last)[1] - 1 if last >= 0 else 0)

    def buckets(self) -> list[tuple[int, int, int]]:
        """Return (from, below, count) of every bucket that is not empty, in nanoseconds."""
        return [(*_bounds(bucket), count) for bucket, count in enumerate(self.counts) if count]

    @classmethod
    def from_buckets(cls, buckets: Iterable[Sequence[int]], maximum: int) -> Histogram:
        """Rebuild what :meth:`buckets` returned.

        Raises:
            ValueError: the bounds are not those of these buckets.
        """
        hist = cls(maximum=maximum)
        for lowest, below, count in buckets:
            bucket = _bucket(lowest)
            if _bounds(bucket) != (lowest, below):
                raise ValueError(f"a bucket from {lowest} to {below} ns is none of this histogram")
            hist.counts[bucket] += count
        return hist


def _bucket(value: int) -> int:
    if value < 1 << _BITS:
        return value
    octave = value.bit_length() - 1 - _BITS
    return min((octave << _BITS) + (value >> octave), BUCKETS - 1)


def _bounds(bucket: int) -> tuple[int, int]:
    """Return the lowest value of a bucket, and the first beyond it."""
    octave = max((bucket >> _BITS) - 1, 0)
    lowest = (bucket - (octave << _BITS)) << octave
    return lowest, lowest + (1 << octave)


def _middle(bucket: int) -> float:
    lowest, below = _bounds(bucket)
    return (lowest + below - 1) / 2
