"""What one of several workers has of a pool: its share of what all of them may do together.

Each worker is a process that knows its own clients alone, so numbers that hold for all are shared
out. All else a worker has whole, and learns by itself: who is up, whose turn it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from muxcore.pool.upstream import Upstream

WHOLE = (1, 1)
"""The share of who is alone: (number, count)."""


def even(most: int, share: tuple[int, int]) -> int:
    """Return a worker's share of a whole number; the first workers have the remainder.

    Args:
        most: the number for all.
        share: (number, count) of the worker, counted from 1.

    Returns:
        At least 1: a worker with 0 would refuse whomever the kernel gives it.
    """
    number, count = share
    return max(1, most // count + (number <= most % count))


def settings_of(made_with: Mapping[str, Any], share: tuple[int, int]) -> dict[str, Any]:
    """Return a worker's share of what a pool was made with."""
    shared = dict(made_with)
    for name in ("max_active", "queue"):
        if made_with[name]:
            shared[name] = even(made_with[name], share)
    if made_with["rate"] is not None:
        shared["rate"] = made_with["rate"] / share[1]
    return shared


def upstream_of(upstream: Upstream, share: tuple[int, int]) -> Upstream:
    """Return an upstream of which nothing is known yet, with a worker's share of what it takes."""
    shared = copy.copy(upstream)
    if shared.max_active is not None:
        shared.max_active = even(shared.max_active, share)
    if shared.rate is not None:
        shared.rate /= share[1]
    speeds = (shared.bytes_up, shared.bytes_down)
    shared.speeds = shared.witness = None  # they were the other's
    shared.limit_bytes(*(each and each / share[1] for each in speeds))
    return shared
