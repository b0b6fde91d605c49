"""What may be concluded from paired windows.

The figure is the median of the ratios within rounds; its interval comes from order statistics (the
binomial distribution of how many ratios lie below the median: no normal law is assumed). Windows of
one start of a server are not independent of that start, so an interval alone would claim too much.
A difference is claimed only where three things hold:

1. the 99 % interval, corrected for the number of comparisons in the report (Bonferroni), is off 1;
2. its near end lies beyond the noise: what a server and its twin differed by, in the median, in the
   same rounds. (Beyond the far end of the twin's interval counts the scatter of the windows twice:
   on a restless machine so a planted 5 % was found by the rate in 76 runs of 100, by the CPU in 88,
   and now in all; between identical servers nothing was claimed, either way.)
3. every block, that is every fresh start of the servers, points the same way; of many, all but one
   in six.

Where the first two hold and the third does not, or the interval is wide, it is unclear.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.99
_RESOLVED = (
    0.1  # a wider interval would hide a difference that matters: it shows nothing either way
)
UNSTABLE = 0.05  # a twin that may differ by this much: the machine was too restless to rank servers
PRECISE = 0.02  # a twin that cannot differ by more: then a difference of 5 % is told from none
_ODD = 6  # of so many blocks one may point the other way: a start that was lucky, or unlucky


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its interval; infinite where there are too few values for the confidence."""

    low: float
    median: float
    high: float

    @property
    def reach(self) -> float:
        """How far from 1 the interval reaches, as a ratio of at least 1."""
        if self.low <= 0:
            return math.inf
        return max(self.high, 1 / self.low, 1.0)

    @property
    def offset(self) -> float:
        """How far from 1 the median lies, as a ratio of at least 1; inf without an interval."""
        if not math.isfinite(self.reach):
            return math.inf
        return max(self.median, 1 / self.median)

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison says.

    ``word`` is "more", "less", "no difference" (the interval lies within 10 % of 1, and is not off
    the noise), "unclear" (nothing may be claimed) or "too few rounds".
    """

    word: str
    interval: Interval


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the median with its order-statistic interval.

    Args:
        values: at least one.
        confidence: that the interval holds the median, at least.
    """
    ordered = sorted(values)
    count = len(ordered)
    cut = _ranks_to_cut(count, (1 - confidence) / 2)
    low, high = -math.inf, math.inf
    if cut:
        low, high = ordered[cut - 1], ordered[count - cut]
    return Interval(low, statistics.median(ordered), high)


def corrected(comparisons: int) -> float:
    """Return the confidence each of so many comparisons needs, so that all of them hold 99 %."""
    return 1 - (1 - CONFIDENCE) / max(comparisons, 1)


def ratios(values: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Return value / reference of each round that has both."""
    return {
        number: value / reference[number]
        for number, value in values.items()
        if reference.get(number, 0.0) > 0 and value > 0
    }


def judge(
    by_round: Mapping[int, float],
    block_of: Mapping[int, int],
    noise: float,
    confidence: float = CONFIDENCE,
) -> Verdict:
    """Say whether ratios differ from 1.

    Args:
        by_round: the ratio of each round.
        block_of: the block each round belongs to.
        noise: what identical servers differed by, as a ratio of at least 1 (1.02 is 2 %).
        confidence: see :func:`corrected`.
    """
    interval = median_interval(list(by_round.values()), confidence)
    if not math.isfinite(interval.low):
        return Verdict("too few rounds", interval)
    medians = [
        statistics.median(ratio for number, ratio in by_round.items() if block_of[number] == block)
        for block in {block_of[number] for number in by_round}
    ]
    above, below = interval.low > noise, interval.high < 1 / noise
    odd = len(medians) // _ODD
    if above and sum(median <= 1 for median in medians) <= odd:
        return Verdict("more", interval)
    if below and sum(median >= 1 for median in medians) <= odd:
        return Verdict("less", interval)
    same = not above and not below and interval.reach <= 1 + _RESOLVED
    return Verdict("no difference" if same else "unclear", interval)


def _ranks_to_cut(count: int, tail: float) -> int:
    """Return the largest k with P(fewer than k of ``count`` values lie below it) <= tail."""
    probability, cumulated, cut = 0.5**count, 0.0, 0
    for below in range(count // 2 + 1):
        cumulated += probability
        if cumulated > tail:
            break
        cut = below + 1
        probability *= (count - below) / (below + 1)
    return cut
