"""A connection of the readiness engines whose receives count against rates: parts/rates.py."""

from __future__ import annotations

from time import monotonic
from typing import Any

from muxcore.parts.rates import Bucket, Limited
from muxcore.parts.states import HOLD_RATE
from muxcore.protocol import AnyProtocol
from muxcore.pure.deadlines import Deadlines
from muxcore.pure.watching_loop import WatchingLoop
from muxcore.rate import Rate, bucket_of


class Rated(Deadlines):
    """The contract of one connection, with its rates; arguments as of ``BaseTransport``.

    Attributes:
        _limited: its rates; None: it has none, and nobody asks further.
    """

    __slots__ = ("_limited",)

    def __init__(self, engine: WatchingLoop, protocol: AnyProtocol, peername: Any) -> None:
        self._limited: Limited | None = None
        super().__init__(engine, protocol, peername)

    def _limit(self, rates: tuple[Rate, ...]) -> None:
        buckets = tuple(bucket_of(each, self._engine, self._bucket) for each in rates)
        self._leave_rates()
        if buckets:
            self._limited = Limited(buckets, self._has_turn)
        self._clear_hold(HOLD_RATE)  # these decide anew

    def _bucket(self, rate: Rate) -> Bucket:
        return Bucket(self._engine, rate)

    def _has_turn(self) -> None:
        if self._engine.clocked:
            self._moved_at = monotonic()  # it was not idle until now
        self._clear_hold(HOLD_RATE)

    def _waits_for_rate(self) -> bool:
        sides = self._limited, self._partner()._limited
        return any(each is not None and each.waits() for each in sides)

    def _room(self) -> int:
        """Return how much may be received now; 0: nothing, it is held until it has its turn."""
        room = self._engine.limits.read_chunk
        if self._limited is not None:
            room = self._limited.room(room)
            if not room:
                self._set_hold(HOLD_RATE)
        return room

    def _leave_rates(self) -> None:
        """Count no longer: all rates are others now, or what comes is dropped."""
        if self._limited is not None:
            self._limited.leave()
            self._limited = None
