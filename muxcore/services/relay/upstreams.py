"""Which upstream a client gets, and how long one that fails is left alone.

::

    up ──── it fails ───► resting ──── the pause is over, a client comes ───► probing
     ▲                       ▲──────────────── it fails: twice the pause ───────┘ │
     └──────────────────────── it is connected ───────────────────────────────────┘

Nothing here does I/O, and the clock is an argument. Failures are learnt from clients' own
connections: an upstream that fails while nobody comes is not noticed, and a probe that an upstream
leaves without an answer costs one client the time-out.
"""

from __future__ import annotations

import logging
import mmap
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from muxcore.address import Address

logger = logging.getLogger("muxcore.relay")

POLICIES = ("round-robin", "least-connections")

FIRST_PAUSE = 0.5  # s: a restart of a small server; a client is turned away by then anyway
LONGEST_PAUSE = 30.0  # s: how long one that is back may wait for its first client
_SPREAD = 0.2  # of a pause, either way: relays that lost an upstream at once do not return at once


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """What is known of one upstream.

    Attributes:
        state: "up", "resting" (it failed, and is left alone), or "probing" (one client tries it).
        active: clients joined with it now, or on their way to it.
        total: clients that were joined with it.
        failed: connections to it that did not come about.
        rests_for: seconds until it is tried again; 0 unless it rests.
    """

    state: str
    active: int
    total: int
    failed: int
    rests_for: float


class Upstream:
    """One upstream and its state; ``is_self``: it is the server that relays to it."""

    __slots__ = (
        "_pause",
        "_rested_at",
        "active",
        "address",
        "failed",
        "is_self",
        "name",
        "probing",
        "rests_until",
        "total",
    )

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = str(address)
        self.active = self.total = self.failed = 0
        self.is_self = self.probing = False
        self.rests_until: float | None = None  # None: it is up
        self._rested_at = 0.0
        self._pause = 0.0


class Upstreams:
    """The upstreams of one relay.

    Args:
        addresses: of the upstreams, at least one, each once.
        policy: one of ``POLICIES``.
        clock: returns seconds that never go backward.
        spread: returns a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        policy: str,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.all = tuple(Upstream(address) for address in addresses)
        self.clock = clock
        self._spread = spread
        self._least = policy == "least-connections"
        self._down = 0  # of them, how many are not up
        # Whose turn it is, in memory that forked children share: each serves one client, and all
        # would begin with the same upstream. A turn that two of them take at once does no harm.
        self._turn = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def take(self, tried: Sequence[Upstream] = ()) -> Upstream | None:
        """Return the upstream for a client, which is counted there at once; None: all were tried.

        One whose pause is over comes first, and gets this one client. Then those that are up, as
        the policy has it. Where none is left, the one that is due first is tried all the same.
        """
        turn = self._turn[0]
        self._turn[0] = turn + 1
        if not self._down and not tried and not self._least:
            chosen = self.all[turn % len(self.all)]
        else:
            first = turn % len(self.all)
            found = self._found([u for u in self.all[first:] + self.all[:first] if u not in tried])
            if found is None:
                return None
            chosen = found
        chosen.active += 1
        return chosen

    def connected(self, upstream: Upstream) -> None:
        """It took a connection: it is up."""
        upstream.total += 1
        if upstream.rests_until is not None:
            upstream.rests_until = None
            upstream.probing = False
            upstream._pause = 0.0
            self._down -= 1
            logger.warning("upstream %s is back", upstream.name)

    def failed(self, upstream: Upstream, began: float, why: object) -> None:
        """A connection to it did not come about, and it is to blame.

        Args:
            upstream: the one.
            began: when the attempt did. What began before the pause tells nothing new: the many
                clients of an upstream that dies do not make it one long pause.
            why: for the log.
        """
        upstream.active -= 1
        upstream.failed += 1
        upstream.probing = False
        now = self.clock()
        if upstream.rests_until is None:
            self._down += 1
        elif now < upstream.rests_until or began < upstream._rested_at:
            return
        upstream._pause = min(max(FIRST_PAUSE, 2 * upstream._pause), LONGEST_PAUSE)
        pause = upstream._pause * (1 - _SPREAD + 2 * _SPREAD * self._spread())
        upstream._rested_at, upstream.rests_until = now, now + pause
        logger.warning("upstream %s is left alone for %.2g s: %s", upstream.name, pause, why)

    def left(self, upstream: Upstream) -> None:
        """A client is gone before it was joined, through no fault of the upstream."""
        upstream.active -= 1
        upstream.probing = False

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each, by its address."""
        now = self.clock()
        return {u.name: _stats_of(u, now) for u in self.all}

    def _found(self, left: list[Upstream]) -> Upstream | None:
        now = self.clock()
        resting = [u for u in left if u.rests_until is not None]
        if resting:
            first = min(resting, key=_due)
            if _due(first) <= now and not first.probing:
                first.probing = True
                return first
        up = [u for u in left if u.rests_until is None]
        if up:
            return min(up, key=_active) if self._least else up[0]
        return min(resting, key=_due, default=None)


def _due(upstream: Upstream) -> float:
    """When it may be probed; one that is being probed comes after all others."""
    assert upstream.rests_until is not None
    return float("inf") if upstream.probing else upstream.rests_until


def _active(upstream: Upstream) -> int:
    return upstream.active


def _stats_of(upstream: Upstream, now: float) -> UpstreamStats:
    rests_until = upstream.rests_until
    state, rests_for = "up", 0.0
    if rests_until is not None:
        state = "probing" if upstream.probing else "resting"
        rests_for = max(0.0, rests_until - now)
    return UpstreamStats(state, upstream.active, upstream.total, upstream.failed, rests_for)
