"""What a load run found; the same for the native generator and the pure one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from muxcore.load.histogram import Histogram

SCHEMA = 1
ERRORS = ("refused", "reset", "closed", "timeout", "corrupt", "status", "resources", "other")
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


@dataclass(slots=True)
class LoadResult:
    """One window.

    Attributes:
        generator: ``native`` or ``pure``.
        seconds: how long the window lasted.
        sent: messages issued for this window.
        received: whole, right replies that came within the window: what the rate counts.
        answered: whole, right replies to this window's messages, those of the drain included.
        lost: messages without a whole and right reply.
        overdue: messages that were due in the window and could not be sent (open loop).
        bytes_out: bytes sent within the window.
        bytes_in: bytes received within the window.
        opened: connections ever established.
        open: connections open at the end.
        errors: how often, by kind (see ``ERRORS``); ``corrupt`` is a wrong byte, ``status`` an HTTP
            status of 400 or more.
        first_error: the first failure in words; empty where there was none.
        latency: of each message, from when it was due (open loop) or sent (closed loop).
        lag: how late the generator itself was; a large one makes the latency the client's.
        ended_by: the signal that ended the window early: ``SIGINT``; empty where none did.
    """

    generator: str
    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    answered: int = 0
    lost: int = 0
    overdue: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    opened: int = 0
    open: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    latency: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    ended_by: str = ""

    @property
    def rate(self) -> float:
        """Messages a second: replies that came within the window, by its length."""
        return self.received / self.seconds if self.seconds > 0 else 0.0

    @property
    def ok(self) -> bool:
        """Whether every message got its whole and right reply, and no connection failed."""
        return not (self.lost or self.overdue or self.errors.total() or not self.opened)

    def merge(self, other: LoadResult, *, in_turn: bool = False) -> None:
        """Add another result.

        Args:
            other: it; of a generator of the same kind or another ("mixed").
            in_turn: it was found before or after this one, and not at the same time: so their
                seconds add up, and not their rates.
        """
        self.generator = self.generator if other.generator == self.generator else "mixed"
        seconds = (self.seconds, other.seconds)
        self.seconds = sum(seconds) if in_turn else max(seconds)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.errors += other.errors
        self.first_error = self.first_error or other.first_error
        self.latency.merge(other.latency)
        self.lag.merge(other.lag)
        self.ended_by = self.ended_by or other.ended_by

    def times(self, count: int) -> LoadResult:
        """Return what so many generators have found together that have each found this."""
        sums = {name: getattr(self, name) * count for name in _SUMS}
        errors = Counter({kind: n * count for kind, n in self.errors.items()})
        return replace(self, errors=errors, **sums)

    def to_json(self, *, counts: bool = False) -> dict[str, Any]:
        """Return what ``muxcore load --json`` prints; the keys are told in docs/load.md.

        Args:
            counts: with the histograms, so that :meth:`from_json` can rebuild the result.
        """
        found: dict[str, Any] = {
            "schema": SCHEMA,
            "generator": self.generator,
            "ok": self.ok,
            "seconds": self.seconds,
            "rate": self.rate,
            "megabytes_per_second": self.bytes_in / self.seconds / 1e6 if self.seconds else 0.0,
        }
        found |= {name: getattr(self, name) for name in _SUMS}
        found["errors"] = {kind: self.errors[kind] for kind in ERRORS}
        found["first_error"] = self.first_error
        found["latency_us"] = _summary(self.latency)
        found["lag_us"] = _summary(self.lag)
        found["ended_by"] = self.ended_by or None
        if counts:
            found["histograms_ns"] = {
                name: {"max": hist.max, "buckets": hist.buckets()}
                for name, hist in (("latency", self.latency), ("lag", self.lag))
            }
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LoadResult:
        """Rebuild a result from ``to_json(counts=True)``; ``muxcore load --json`` prints that.

        Raises:
            ValueError: it is of another schema.
        """
        if found.get("schema") != SCHEMA:
            raise ValueError(f"a result of schema {found.get('schema')!r}: {SCHEMA} can be read")
        hists = {
            name: Histogram.from_buckets(part["buckets"], part["max"])
            for name, part in found["histograms_ns"].items()
        }
        sums: dict[str, int] = {name: found[name] for name in _SUMS}
        return cls(
            generator=found["generator"],
            seconds=found["seconds"],
            **sums,
            errors=Counter({kind: n for kind, n in found["errors"].items() if n}),
            first_error=found["first_error"],
            latency=hists["latency"],
            lag=hists["lag"],
            ended_by=found["ended_by"] or "",
        )


def merge(found: Iterable[Mapping[str, Any]], *, in_turn: bool = False) -> LoadResult:
    """Return one result of several that ``muxcore load --json`` printed.

    Args:
        found: what was printed, as ``json.load`` returns it; at least one.
        in_turn: they were found one after another, and not at the same time: seconds add up then,
            and not rates.

    Raises:
        ValueError: there is none, or one is of another schema.
    """
    results = [LoadResult.from_json(each) for each in found]
    if not results:
        raise ValueError("there is no result to merge")
    for other in results[1:]:
        results[0].merge(other, in_turn=in_turn)
    return results[0]


_SUMS = (
    "sent", "received", "answered", "lost", "overdue", "bytes_out", "bytes_in", "opened", "open",
)  # fmt: skip


def _summary(hist: Histogram) -> dict[str, float | None]:
    """Return the percentiles in microseconds; None (JSON's null) where nothing was counted."""
    found = {f"p{percent:g}": hist.percentile(percent) / 1000 for percent in PERCENTILES}
    found["max"] = hist.percentile(100) / 1000
    return {name: None if math.isnan(value) else value for name, value in found.items()}
