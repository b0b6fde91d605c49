"""Which of several upstreams gets a client. All that are given here are up and have room.

Each policy takes the same: those upstreams with their shares (a weight, in tenths), whose turn it
is (a number that grows by one with each client, in all processes), and the client's key.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from muxcore.pool.upstream import Upstream

Shared: TypeAlias = Sequence[tuple[Upstream, int]]
Policy: TypeAlias = Callable[[Shared, int, bytes], Upstream]


def in_turns(upstreams: Shared, turn: int, key: bytes) -> Upstream:
    """Give each as many turns as it has weight, and spread them."""
    order = _turns(tuple(share for _, share in upstreams))
    return upstreams[order[turn % len(order)]][0]


def fewest(upstreams: Shared, turn: int, key: bytes) -> Upstream:
    """Give it to the one with the fewest clients for its weight; equal ones take turns."""
    first = turn % len(upstreams)
    return min((*upstreams[first:], *upstreams[:first]), key=_load)[0]


def two_random(upstreams: Shared, turn: int, key: bytes) -> Upstream:
    """Draw two different ones by their weight, and give it to the one with fewer clients.

    Better than one, and hardly worse than the best of all where several relays do not know of each
    other's clients: Mitzenmacher, The Power of Two Choices, 2001.
    """
    weights = [share for _, share in upstreams]
    (first,) = random.choices(range(len(weights)), weights)
    if len(weights) == 1:
        return upstreams[first][0]
    weights[first] = 0
    (second,) = random.choices(range(len(weights)), weights)
    return min(upstreams[first], upstreams[second], key=_load)[0]


def by_key(upstreams: Shared, turn: int, key: bytes) -> Upstream:
    """Give a key always to the same one; where that is gone, its keys alone go elsewhere.

    (Weighted rendezvous hashing: Thaler and Ravishankar, 1998; Schindelhauer and Schomaker, 2005.)
    """
    return max(upstreams, key=lambda each: each[1] * _score(each[0].name, key))[0]


def in_order(upstreams: Shared, turn: int, key: bytes) -> Upstream:
    """Give it to the first one: the others are for when that is full, or gone."""
    return upstreams[0][0]


POLICIES: dict[str, Policy] = {
    "round-robin": in_turns,
    "least-connections": fewest,
    "two-random": two_random,
    "source": by_key,
    "first": in_order,
}


_GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, lie as far apart as can be


def _load(each: tuple[Upstream, int]) -> float:
    return (each[0].active + 1) / each[1]


def _score(name: str, key: bytes) -> float:
    """Return -1 / ln(u) of a number u from 0 to 1 that is this pair's own."""
    drawn = hashlib.blake2b(key, digest_size=8, person=_person(name)).digest()
    return -1 / math.log((int.from_bytes(drawn) + 0.5) / 2**64)


@lru_cache(maxsize=4096)
def _person(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


@lru_cache(maxsize=64)
def _turns(shares: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order of one whole turn: each has its places evenly, and all begin apart."""
    common = math.gcd(*shares)
    places = [
        ((k + (0.5 + number * _GOLDEN) % 1) / (share // common), number)
        for number, share in enumerate(shares)
        for k in range(share // common)
    ]
    return tuple(number for _, number in sorted(places))
