"""The comparison as one HTML page that needs nothing else: no script, no font, no request.

The first screen is for ten seconds: one sentence, one picture, one badge of trust. Below it each
axis has a small picture and a sentence, then come the planned comparisons, and every figure; the
method is behind a fold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from muxcore.compare.report import charts, style
from muxcore.compare.report.picture import Row, Scale, engines, kinds, percentiles
from muxcore.compare.report.verdict import (
    again,
    asked,
    beside_others,
    headline,
    microseconds,
    plain,
    remark,
    trust,
)

_AXIS = "server CPU a message, µs, logarithmic; further left is better; bars: 99 % intervals"
_TIME = "latency, µs, logarithmic: p50, p90, p99, p99.9; further left is better"
_TITLES = {
    "connections": "By connections",
    "size": "By size",
    "idle": "By idle clients",
    "depth": "By depth",
    "churn": "By churn",
    "": "Quoted",
}
_METHOD = """
<p>Every server ran in a process of its own on one core, the client on another. Each round gave
every server one short window, in random order, so that the machine's drift falls on all of them
alike; the servers were started anew, {blocks} times for the first picture. Each was warmed before
its first window, as it is in production: clients came, talked and went (one row, if it is here, is
not: <i>fresh</i> shows asyncio until its first client leaves, while its receive buffer costs three
memory maps a message). A ratio is the median over the rounds. Its 99&nbsp;% interval comes from
order statistics, and is corrected for the {comparisons} comparisons that were planned before
anything was measured. A difference is told only where that interval excludes 1, lies beyond what
two identical servers differed by, and every start agrees. CPU is the kernel's account of the server
and its children. Every byte of every reply was compared.</p>
"""


def page(found: Mapping[str, Any]) -> str:
    """Return the report of what ``muxcore compare`` found."""
    trusted = trust(found)
    first, *others = found["cells"]
    badge = (
        f'<span class="badge {"yes" if trusted.quotable else "no"}">{escape(trusted.why)}</span>'
    )
    body = [
        f'<p class="kicker">muxcore compare · {escape(_machine(found))}</p>',
        f"<h1>{_marked(headline(found))}</h1>",
        _picture(found, first),
        badge,
        _answers(found, beside_others(found), "At a glance"),
        _panels(found, others),
        _answers(found, asked(found), "All that was asked"),
        *(_latency(each) for each in found["latency"]),
        "<h2>Every figure</h2>",
        *(_table(each) for each in found["cells"]),
        _costs(found["costs"]) if found["costs"] else "",
        _method(found),
    ]
    title = escape(plain(headline(found)))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="description" content="{title}"><link rel="icon" href="data:,">'
        f"<title>muxcore compare: {escape(found['started'][:10])}</title>"
        f"<style>{style.COLOURS}{style.PAGE}</style>{''.join(body)}</html>\n"
    )


def _marked(text: str) -> str:
    """Return a sentence as HTML: what matters most in bold, no number without its unit."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))
    return re.sub(r"(\d) (µs|ms|%)", "\\1\N{NO-BREAK SPACE}\\2", bold)


def _machine(found: Mapping[str, Any]) -> str:
    where = found["environment"]
    python = where["python"].split()[0]
    return f"{where['cpu']}, Linux {where['kernel']}, Python {python}, {found['started'][:10]}"


def _picture(found: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    rows = engines(found, cell)
    if not rows:
        return ""
    keys = f'<p class="keys">{charts.key(kinds(rows))}</p>'
    title = f"server CPU a message, {cell['name']}"
    return keys + charts.dots(rows, Scale(rows), title, f"{cell['name']}: {_AXIS}") + _stopped(cell)


def _panels(found: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    rows = [engines(found, each) for each in cells]
    same = [shown for each, shown in zip(cells, rows, strict=True) if each["axis"] != "churn"]
    shared = Scale(row for shown in same for row in shown)  # a new connection costs other amounts
    panels = "".join(
        f'<section class="panel"><h3>{_TITLES[each["axis"]]}: {escape(each["name"])}</h3>'
        f"<p>{_marked(remark(found, each))}</p>"
        f"{charts.dots(shown, _scale(each, shown, shared), each['name'], _AXIS)}"
        f"{_stopped(each)}{_unstable(each)}"
        "</section>"
        for each, shown in zip(cells, rows, strict=True)
        if shown or each["stopped"]
    )
    return f'<h2>What it depends on</h2><div class="panels">{panels}</div>' if panels else ""


def _scale(cell: Mapping[str, Any], rows: Sequence[Row], shared: Scale) -> Scale:
    return Scale(rows) if cell["axis"] == "churn" else shared


def _unstable(cell: Mapping[str, Any]) -> str:
    if not cell["unstable"]:
        return ""
    return '<p class="soft">Unstable: two identical servers differed by more than 5 % here.</p>'


def _stopped(cell: Mapping[str, Any]) -> str:
    return "".join(
        f'<p class="soft"><b>{escape(name)}</b> stops here: {_lines(why)}</p>'
        for name, why in cell["stopped"].items()
    )


def _lines(text: str) -> str:
    """Return a text as HTML: further lines, of a traceback, stay lines."""
    first, _, rest = text.partition("\n")
    return escape(first) + (f"</p><pre>{escape(rest)}</pre><p>" if rest else "")


def _answers(found: Mapping[str, Any], asks: Sequence[str], title: str) -> str:
    """Return planned comparisons: a row for each question, a column for each cell."""
    if not asks:
        return ""
    by = [{f["asks"]: f for f in cell["findings"]} for cell in found["cells"]]
    head = "".join(f"<th>{escape(cell['name'])}" for cell in found["cells"])
    rows = "".join(
        f"<tr><td>{escape(each)}{''.join(_answer(cell.get(each)) for cell in by)}" for each in asks
    )
    return (
        f'<h2>{title}</h2><div class="scroll"><table><tr><th>{head}{rows}</table></div>'
        '<p class="soft">CPU a message as a ratio, with its 99 % interval: below 1 the first is '
        "cheaper. Grey cannot be told from equal.</p>"
    )


def _answer(finding: Mapping[str, Any] | None) -> str:
    if finding is None:
        return "<td>–"
    interval = finding["ratio"]
    low, high = interval["low"], interval["high"]
    reach = "too few rounds" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    shade = finding["verdict"] if finding["verdict"] in ("less", "more") else "same"
    return f'<td class="{shade}">×{interval["median"]:.3f}<small>{reach}</small>'


def _latency(each: Mapping[str, Any]) -> str:
    rows = percentiles(each["figures"])
    numbers = [
        [name, f"{each['offered'][name]:,.0f}", *map(microseconds, _times(figures)), _lag(figures)]
        for name, figures in each["figures"].items()
    ]
    head = ["", "offered/s", "p50", "p90", "p99", "p99.9", "client's own lateness, p99"]
    pictured = charts.dots(rows, Scale(rows), f"latency at {each['name']}", _TIME) if rows else ""
    return (
        f"<details><summary>Latency at {escape(each['name'])}</summary><p>Messages fall due at "
        "random (Poisson); each is timed from when it was due.</p>"
        f"{pictured}{_html_table(head, numbers)}{_stopped(each)}"
        + "".join(f'<p class="soft">{line}.</p>' for line in again(each))
        + "</details>"
    )


def _times(figures: Mapping[str, Any]) -> list[float]:
    return [figures["latency_us"][key] or 0.0 for key in ("p50", "p90", "p99", "p99.9")]


def _lag(figures: Mapping[str, Any]) -> str:
    return microseconds(figures["lag_p99_us"] or 0.0)


def _table(cell: Mapping[str, Any]) -> str:
    rows = []
    for name, figures in cell["figures"].items():
        rate, times = f"{figures['rate']:,.0f}", figures["latency_us"]
        rows.append(
            [
                name,
                microseconds(figures["cpu_us_per_message"]),
                rate if figures["is_bottleneck"] else f"({rate})",
                f"{figures['busy']:.0%}",
                *(microseconds(times[key] or 0.0) for key in ("p50", "p99")),
                str(figures["windows"]),
            ]
        )
    head = ["", "CPU a message", "messages/s", "busy", "p50", "p99", "windows"]
    twin = cell["twin"]["cpu"]
    reach = "" if twin["low"] is None else f" [{twin['low']:.3f}, {twin['high']:.3f}]"
    notes = [f"The same server against its twin: ×{twin['median']:.3f}{reach}", *again(cell)]
    return (
        f"<details><summary>{escape(cell['name'])}</summary>{_html_table(head, rows)}"
        "<p class=soft>A rate in (brackets) is the client's: the server's core was not busy.</p>"
        + "".join(f'<p class="soft">{line}.</p>' for line in notes)
        + "</details>"
    )


def _costs(costs: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _or_dash(each["memory_bytes_per_connection"], 0),
            _or_dash(each["system_calls_per_message"], 2),
        ]
        for name, each in costs.items()
    ]
    head = ["", "bytes a connection, in the process", "system calls a message"]
    table = _html_table(head, rows)
    return f"<details><summary>Memory and system calls</summary>{table}</details>"


def _method(found: Mapping[str, Any]) -> str:
    where = found["environment"]
    facts = {
        "command": found["command"],
        "muxcore": where["muxcore"],
        "Python": where["python"],
        "C library": where["libc"],
        "cores": where["cores"],
        "load generator": where["load_generator"],
        "load average at the start": ", ".join(f"{x:.2f}" for x in where["load_average"]),
        "frequency governor": where["governor"],
        "packages": ", ".join(f"{k} {v}" for k, v in where["packages"].items()),
        "mitigations": "; ".join(f"{k}: {v}" for k, v in where["mitigations"].items()),
    }
    rows = "".join(
        f"<tr><td>{escape(name)}<td class=text>{escape(str(value))}"
        for name, value in facts.items()
    )
    notes = "".join(f"<p>{escape(line)}</p>" for line in found["cautions"])
    commands = "\n".join(f"{each['name']}: {' '.join(each['argv'])}" for each in found["subjects"])
    return (
        f"<details><summary>How this was measured, and where</summary>{_METHOD.format_map(found)}"
        f"{notes}"
        f"<div class=scroll><table>{rows}</table></div><pre>{escape(commands)}</pre></details>"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}" for cell in head)]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def _or_dash(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
