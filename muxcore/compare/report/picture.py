"""What the pictures show: rows of dots on a logarithmic axis, whoever draws them.

A logarithm, since the question is always "how many times as much": equal distances are equal
ratios, whether it is 4 or 40 microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxcore.compare.questions import ALONE
from muxcore.compare.report.verdict import microseconds

_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)  # of a decade, where a tick may stand
_FEWER = ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))  # where those are too many
_TICKS = 6  # at most: more do not fit on a phone


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure: its kind (a class of the style sheet), and its interval where there is one."""

    kind: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What stands on one line, joined: an engine's verb and callback, or percentiles."""

    label: str
    dots: tuple[Dot, ...]

    @property
    def text(self) -> str:
        """The figures in words, in the unit of the last."""
        said = [microseconds(dot.value) for dot in self.dots]
        units = {each.partition(" ")[2] for each in said}
        if len(units) == 1:
            said = [each.partition(" ")[0] for each in said[:-1]] + said[-1:]
        return " · ".join(said)


class Scale:
    """A logarithmic axis over some rows, and its ticks."""

    def __init__(self, rows: Iterable[Row]) -> None:
        values = [
            value
            for row in rows
            for dot in row.dots
            for value in (dot.low, dot.value, dot.high)
            if value is not None and 0 < value < math.inf
        ] or [1.0]
        self._low, self._high = math.log(min(values) / 1.08), math.log(max(values) * 1.08)
        self.ticks = self._ticks()

    def at(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        place = (math.log(max(value, 1e-9)) - self._low) / (self._high - self._low)
        return max(0.0, min(1.0, place))

    def _ticks(self) -> list[float]:
        decades = range(math.floor(self._low / math.log(10)), math.ceil(self._high / math.log(10)))
        found: list[float] = []
        for steps in (_STEPS, *_FEWER):
            values = [step * 10.0**decade for decade in decades for step in steps]
            found = [each for each in values if self._low <= math.log(each) <= self._high]
            if len(found) <= _TICKS:
                break
        return found


def engines(found: Mapping[str, Any], cell: Mapping[str, Any]) -> list[Row]:
    """Return a cell's rows, the cheapest first: an engine's verb and callback share one."""
    about = {each["name"]: each for each in found["subjects"]}
    rows: dict[str, list[Dot]] = {}
    for name, figures in cell["figures"].items():
        if name.endswith(ALONE):
            continue
        interval = figures["cpu_us_interval"]
        engine, handler = about[name]["engine"], about[name]["handler"]
        kind = handler if handler in ("verb", "callback", "app") else "reference"
        dot = Dot(kind, figures["cpu_us_per_message"], interval["low"], interval["high"])
        rows.setdefault(name if kind == "reference" else engine, []).append(dot)
    made = [Row(label, tuple(sorted(dots, key=_kind))) for label, dots in rows.items()]
    return sorted(made, key=lambda row: row.dots[-1].value)


def percentiles(figures: Mapping[str, Any]) -> list[Row]:
    """Return the latencies of each subject, p50 to p99.9."""
    rows = []
    for name, each in figures.items():
        times = [each["latency_us"][key] for key in ("p50", "p90", "p99", "p99.9")]
        dots = tuple(Dot("time", value) for value in times if value)
        if dots:
            rows.append(Row(name, dots))
    return rows


def kinds(rows: Sequence[Row]) -> list[str]:
    """Return which kinds of dots there are, for the key."""
    order = ("verb", "callback", "app", "reference")
    there = {dot.kind for row in rows for dot in row.dots}
    return [kind for kind in order if kind in there]


def _kind(dot: Dot) -> int:
    return ("verb", "callback", "app", "reference", "time").index(dot.kind)
