"""New connections a second: a bucket of tokens, one number for each who is limited.

The number is when the bucket would be full again (the "theoretical arrival time" of the generic
cell rate algorithm, ITU-T I.371): a table of thousands needs no timer, and a new rate holds for all
of them at once.
"""

from __future__ import annotations

import math
from typing import Any

_SLACK = 1e-3  # of the time for a token: what sums of floats are off by is less
FASTEST = 1_000_000.0  # a second: more than any machine accepts


class Pace:
    """So many a second; at once at most a second's worth, and one at least.

    Args:
        rate: a second.
    """

    __slots__ = ("_span", "_step", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._step = 1 / rate
        self._span = max(1.0, self._step)  # seconds in which an empty bucket is full again

    def at_latest(self, full_at: float, now: float) -> float:
        """Return when a bucket is full; a lower rate, until now, may have put that further off.

        Args:
            full_at: when it was to be full; -inf: always.
            now: the time.
        """
        return min(full_at, now + self._span)

    def wait(self, full_at: float, now: float) -> float:
        """Return the seconds until there is a token; 0: there is one."""
        wait = full_at - now + self._step - self._span
        return wait if wait > _SLACK * self._step else 0.0

    def taken(self, full_at: float, now: float) -> float:
        """Return when the bucket is full, now that a token is taken that was there."""
        return max(now, full_at) + self._step


def checked_rate(owner: str, name: str, value: Any) -> Pace | None:
    """Return the pace of so many a second, or refuse them.

    Args:
        owner: the class that it was given to.
        name: the argument.
        value: a number, or None: there is no limit.

    Raises:
        ValueError: it is no rate.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= FASTEST:
        raise ValueError(
            f"{owner}({name}={value!r}): {name} must be connections a second, above 0 and at most "
            f"{FASTEST:,.0f}, not {value!r}; None is no limit"
        )
    return Pace(float(value))
