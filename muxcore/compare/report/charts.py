"""Rows of dots as HTML: text stays text, and its size, on a phone and for a screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from muxcore.compare.report.picture import Dot, Row, Scale

KEY = {
    "verb": "verb",
    "callback": "callback",
    "app": "your service",
    "reference": "other servers, and adapters",
}
# A shape for each kind, so that nobody needs to tell the colours.
_SHAPES = {
    "verb": '<circle r="6"/>',
    "callback": '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    "app": '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    "reference": '<path d="M0-7 7 0 0 7-7 0z"/>',
    "time": '<circle r="4"/>',
}


def dots(rows: Sequence[Row], scale: Scale, title: str, axis: str) -> str:
    """Return a picture.

    Args:
        rows: from the top.
        scale: the axis; several pictures that share one can be compared.
        title: for those who do not see it.
        axis: what the axis shows, and which direction is better.
    """
    lines = "".join(
        f'<div class="row"><span class="name">{escape(row.label)}</span>'
        f'<svg aria-hidden="true">{_grid(scale)}{_joined(row, scale)}</svg>'
        f'<span class="value">{escape(row.text)}</span></div>'
        for row in rows
    )
    ticks = "".join(
        f'<text x="{_percent(scale, tick)}" y="12">{tick:g}</text>' for tick in scale.ticks
    )
    ruler = f'<span></span><svg aria-hidden="true">{ticks}</svg><span></span>'
    return (
        f'<figure class="dots" aria-label="{escape(title)}">{lines}'
        f'<div class="row axis">{ruler}</div>'
        f"<figcaption>{escape(axis)}</figcaption></figure>"
    )


def key(kinds: Sequence[str]) -> str:
    """Return what the shapes mean."""
    return "".join(
        f'<span class="key"><svg aria-hidden="true" width="18" height="18">'
        f'<g class="{kind}" transform="translate(9 9)">{_SHAPES[kind]}</g></svg>{KEY[kind]}</span>'
        for kind in kinds
    )


def _grid(scale: Scale) -> str:
    return "".join(
        f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="100%"/>'
        for tick in scale.ticks
        for at in [_percent(scale, tick)]
    )


def _joined(row: Row, scale: Scale) -> str:
    places = [scale.at(dot.value) for dot in row.dots]
    joint = (
        f'<line class="joint" x1="{min(places):.2%}" x2="{max(places):.2%}" y1="50%" y2="50%"/>'
        if len(places) > 1
        else ""
    )
    return joint + "".join(_dot(dot, scale) for dot in row.dots)


def _dot(dot: Dot, scale: Scale) -> str:
    whisker = ""
    if dot.low is not None and dot.high is not None:
        ends = f'x1="{_percent(scale, dot.low)}" x2="{_percent(scale, dot.high)}"'
        whisker = f'<line class="whisker {dot.kind}" {ends} y1="50%" y2="50%"/>'
    shape = f'<svg x="{_percent(scale, dot.value)}" y="50%" overflow="visible">'
    return f'{whisker}{shape}<g class="{dot.kind}">{_SHAPES[dot.kind]}</g></svg>'


def _percent(scale: Scale, value: float) -> str:
    return f"{scale.at(value):.2%}"
