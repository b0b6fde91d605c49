"""The comparison as one picture of its own, an SVG to post: verdict, dots, trust, machine."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

from muxcore.compare.report.picture import Row, Scale, engines
from muxcore.compare.report.style import COLOURS
from muxcore.compare.report.verdict import headline, trust

_WIDTH, _HEIGHT = 1200, 630  # px, what sites that show a page's picture ask for
_LEFT, _RIGHT = 290, 950  # px, where the axis begins and ends
_LINE = 34  # px, of the verdict's text
_WRAP = 84  # characters of it on a line, at 24 px
_AXIS = "server CPU a message, µs, logarithmic"
_ROWS = 11  # at most: more would be too small to read
_STYLE = """
text{font-family:system-ui,sans-serif;fill:var(--ink)}.paper{fill:var(--paper)}
.soft{fill:var(--soft)}.grid{stroke:var(--line)}.good{fill:var(--good)}.bad{fill:var(--bad)}
.joint{stroke:var(--soft);stroke-width:2;opacity:.5}.whisker{stroke-width:3;opacity:.55}
.verb{fill:var(--verb);stroke:var(--verb)}.callback,.app{fill:var(--callback);stroke:var(--callback)}
.reference{fill:var(--reference);stroke:var(--reference)}
"""


def card(found: Mapping[str, Any]) -> str:
    """Return the picture."""
    first, where, trusted = found["cells"][0], found["environment"], trust(found)
    machine = f"muxcore {where['muxcore']}, {where['cpu']}, Linux {where['kernel']}"
    lines = textwrap.wrap(headline(found), _WRAP)
    parts = [
        f'<text x="40" y="{62 + i * _LINE}" font-size="24">{_marked(line, lines[:i])}</text>'
        for i, line in enumerate(lines)
    ]
    top = 62 + len(lines) * _LINE
    rows = engines(found, first)
    parts += _rows(rows[:_ROWS], top, 545 - top)
    if len(rows) > _ROWS:
        parts.append(_text(40, 552, 15, f"and {len(rows) - _ROWS} dearer", "soft"))
    parts += [
        _text(620, 552, 15, f"{_AXIS}: further left is better", "soft mid"),
        _text(40, 585, 18, trusted.why, "good" if trusted.quotable else "bad"),
        _text(40, 612, 15, f"{machine}: {found['command']}", "soft"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{escape(' '.join(lines).replace('**', ''))}</title>"
        f"<style>{COLOURS}{_STYLE}.mid{{text-anchor:middle}}.end{{text-anchor:end}}</style>"
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>{"".join(parts)}</svg>\n'
    )


def _rows(rows: list[Row], top: int, height: int) -> list[str]:
    scale = Scale(rows)
    step = height / (len(rows) + 1)
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * scale.at(value)

    parts = []
    for tick in scale.ticks:
        parts.append(f'<path class="grid" d="M{x(tick):.1f} {top}V{bottom:.1f}"/>')
        parts.append(_text(x(tick), bottom + 17, 14, f"{tick:g}", "soft mid"))
    for number, row in enumerate(rows):
        y = top + step * (number + 0.5)
        parts.append(_text(_LEFT - 20, y + 6, 18, row.label, "end"))
        parts.append(_text(_RIGHT + 20, y + 6, 18, row.text))
        places = [x(dot.value) for dot in row.dots]
        parts.append(f'<path class="joint" d="M{min(places):.1f} {y:.1f}H{max(places):.1f}"/>')
        for dot in row.dots:
            if dot.low is not None and dot.high is not None:
                line = f"M{x(dot.low):.1f} {y:.1f}H{x(dot.high):.1f}"
                parts.append(f'<path class="whisker {dot.kind}" d="{line}"/>')
            parts.append(_shape(dot.kind, x(dot.value), y))
    return parts


def _shape(kind: str, x: float, y: float) -> str:
    if kind == "verb":
        return f'<circle class="verb" cx="{x:.1f}" cy="{y:.1f}" r="6.5"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if kind == "reference" else ""
    place = f'x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11"'
    return f'<rect class="{kind}" {place}{turned}/>'


def _text(x: float, y: float, size: int, text: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{kind}>{escape(text)}</text>'


def _marked(line: str, before: list[str]) -> str:
    """Return a line with what lies between two ``**`` bold, also where that began further up."""
    is_bold = "".join(before).count("**") % 2 == 1
    parts = re.split(r"\*\*", escape(line))
    return "".join(
        f'<tspan font-weight="700">{part}</tspan>' if (number % 2 == 1) != is_bold else part
        for number, part in enumerate(parts)
        if part
    )
