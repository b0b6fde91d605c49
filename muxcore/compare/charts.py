"""Charts as inline SVG; positions are percentages, so text keeps its size on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW = 40  # pixels: a label above its bar
_BAR = 14
_FOREST_ROW = 44
_AXIS = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: ``kind`` is a CSS class; a hollow one is a figure that does not count."""

    label: str
    value: float
    text: str
    kind: str
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """A value with an interval on a logarithmic axis; ``claimed`` where it may be told from 1."""

    label: str
    low: float
    middle: float
    high: float
    text: str
    claimed: bool


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Return a bar chart; the axis begins at 0."""
    largest = max((row.value for row in rows), default=0.0) or 1.0
    parts = []
    for i, row in enumerate(rows):
        top = i * _ROW
        width = 100 * row.value / largest
        style = f"bar {row.kind}" + (" hollow" if row.hollow else "")
        parts.append(
            f'<text x="0" y="{top + 14}">{escape(row.label)}</text>'
            f'<text x="100%" y="{top + 14}" class="value">{escape(row.text)}</text>'
            f'<rect y="{top + 19}" width="{width:.2f}%" height="{_BAR}" class="{style}"/>'
        )
    return _svg(title, "".join(parts), len(rows) * _ROW)


def forest(title: str, rows: Sequence[Range]) -> str:
    """Return intervals around 1: what crosses the line is no difference."""
    finite = [v for row in rows for v in (row.low, row.middle, row.high) if 0 < v < math.inf]
    if not finite:
        return ""
    reach = max(max(abs(math.log(value)) for value in finite) * 1.05, math.log(1.1))

    def at(value: float) -> float:
        if value <= 0:
            return 0.0
        return max(0.0, min(100.0, 50 + 50 * math.log(value) / reach))

    height = len(rows) * _FOREST_ROW
    far = math.exp(reach)
    axis = (
        (0.0, "start", f"×{1 / far:.2f}"),
        (50.0, "middle", "×1"),
        (100.0, "end", f"×{far:.2f}"),
    )
    parts = [f'<line x1="50%" x2="50%" y1="0" y2="{height}" class="one"/>']
    for i, row in enumerate(rows):
        top = i * _FOREST_ROW
        style = "claimed" if row.claimed else "same"
        parts.append(
            f'<text x="0" y="{top + 14}">{escape(row.label)}</text>'
            f'<line x1="{at(row.low):.2f}%" x2="{at(row.high):.2f}%" '
            f'y1="{top + 27}" y2="{top + 27}" class="whisker {style}"/>'
            f'<circle cx="{at(row.middle):.2f}%" cy="{top + 27}" r="5" class="{style}">'
            f"<title>{escape(row.text)}</title></circle>"
        )
    return _svg(title, "".join(parts) + _axis(axis, height), height + _AXIS)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Percentiles of one subject, in rising order, as (name, microseconds)."""

    label: str
    kind: str
    steps: tuple[tuple[str, float], ...]


def ladders(title: str, rows: Sequence[Ladder]) -> str:
    """Return percentiles as dots on a logarithmic axis of time."""
    values = [value for row in rows for _, value in row.steps if value > 0]
    if not values:
        return ""
    low, high = math.log(min(values) / 1.2), math.log(max(values) * 1.2)

    def at(value: float) -> float:
        return 100 * (math.log(max(value, math.exp(low))) - low) / (high - low)

    parts = []
    for i, row in enumerate(rows):
        top = i * _FOREST_ROW
        text = ", ".join(f"{name} {value:,.0f}" for name, value in row.steps)
        first, last = row.steps[0][1], row.steps[-1][1]
        parts.append(
            f'<text x="0" y="{top + 14}">{escape(row.label)}</text>'
            f'<line x1="{at(first):.2f}%" x2="{at(last):.2f}%" y1="{top + 27}" y2="{top + 27}" '
            f'class="whisker {row.kind}"/>'
        )
        parts += [
            f'<circle cx="{at(value):.2f}%" cy="{top + 27}" r="4" class="bar {row.kind}">'
            f"<title>{escape(f'{row.label}: {name} {value:,.0f} us ({text})')}</title></circle>"
            for name, value in row.steps
        ]
    height = len(rows) * _FOREST_ROW
    axis = ((0.0, "start", _time(math.exp(low))), (100.0, "end", _time(math.exp(high))))
    return _svg(title, "".join(parts) + _axis(axis, height), height + _AXIS)


def _axis(ticks: Sequence[tuple[float, str, str]], top: int) -> str:
    return "".join(
        f'<text x="{at:g}%" y="{top + 16}" text-anchor="{anchor}" class="tick">'
        f"{escape(text)}</text>"
        for at, anchor, text in ticks
    )


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.3g} ms" if microseconds >= 1000 else f"{microseconds:.3g} µs"


def _svg(title: str, body: str, height: int) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="100%" height="{height}">{body}</svg>'
    )
