"""The comparison as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from muxcore.compare import charts
from muxcore.compare.text import again, ratio, sentence

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fff;--line:#d5dae1;
--card:#f5f7f9;--verb:#1769aa;--callback:#b35c00;--app:#2f7d4f;--same:#7a8594}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a0abba;--paper:#14181e;
--line:#333c48;--card:#1c222a;--verb:#5fb0ee;--callback:#f0a050;--app:#6cc593;--same:#8b96a5}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;line-height:1.2}h3{font-size:1rem;margin:1.2rem 0 .3rem}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem;border-top:1px solid var(--line);padding-top:1rem}
p,li{max-width:44rem}.soft,small{color:var(--soft)}
.warn{border-left:4px solid var(--callback);padding:.2rem .8rem;background:var(--card)}
svg{display:block;overflow:visible;margin:.3rem 0 1rem}text{fill:var(--ink);font-size:14px}
text.tick{fill:var(--soft);font-size:12px}
text.value{fill:var(--soft);text-anchor:end;font-variant-numeric:tabular-nums}rect{rx:2px}
.verb{fill:var(--verb);stroke:var(--verb)}.callback{fill:var(--callback);stroke:var(--callback)}
.app,.plain{fill:var(--app);stroke:var(--app)}.hollow{fill-opacity:.15}
.one{stroke:var(--soft);stroke-dasharray:3 3}.whisker{stroke-width:2}
.claimed{fill:var(--verb);stroke:var(--verb)}.same{fill:var(--same);stroke:var(--same)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child,td.text{text-align:left}td.text{white-space:normal}
code,pre{font-size:.85rem;overflow-wrap:anywhere;white-space:pre-wrap}
.key span{display:inline-block;margin-right:1rem}
.key i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}
"""
_METHOD = """
<h2>How this was measured</h2>
<p>Every server ran in a process of its own on one core, the client on another. Each round gave
every server one short window, in random order, so that the machine's drift falls on all of them
alike: {rounds} rounds, with the servers started anew {blocks} times. Each server was warmed before
its first window, as it is in production: clients came, talked and went. A ratio is the median over
the rounds, with a 99&nbsp;% order-statistic interval corrected for the {comparisons} comparisons
of this page. A difference is claimed only where that interval excludes 1, lies beyond what two
identical servers differed by, and every start agrees. CPU is the kernel's account of the server
and its children. Every byte of every reply was compared.</p>
"""
_POISSON = """
<p class=soft>Messages fall due at random (Poisson); each is timed from when it was due. Dots:
p50, p90, p99, p99.9, on a logarithmic axis.</p>
"""
_UNSTABLE = """
<p class="warn">Unstable: two identical servers differed by more than 5&nbsp;%. Repeat this on a
quiet machine.</p>
"""


def page(found: Mapping[str, Any]) -> str:
    """Return the report of what ``muxcore compare`` found."""
    where = found["environment"]
    kinds = sorted({each["handler"] or "plain" for each in found["subjects"]}, reverse=True)
    key = "".join(
        f'<span><i style="background:var(--{"app" if kind == "plain" else kind})"></i>'
        f"{_KEY[kind]}</span>"
        for kind in kinds
    )
    machine = f"{where['cpu']}, Linux {where['kernel']}"
    about = f"muxcore {where['muxcore']}, {found['started']}, {machine}. Reproduce it with "
    body = [
        "<h1>What each concurrency model costs</h1>",
        f'<p class="soft">{escape(about)}<code>{escape(found["command"])}</code></p>',
        *(f'<p class="warn">{escape(line)}</p>' for line in found["cautions"]),
        f'<p class="key">{key}<small>hollow: the client was the limit, not the server</small></p>',
        _in_short(found["cells"]),
        *(_cell(each, found["subjects"]) for each in found["cells"]),
        *(_latency(each, found["subjects"]) for each in found["latency"]),
        _costs(found["costs"]) if found["costs"] else "",
        _method(found),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>muxcore compare</title><style>{_STYLE}</style>{''.join(body)}</html>\n"
    )


_KEY = {
    "verb": "echo(): the engine moves the bytes",
    "callback": "data_received and write: Python sees each message",
    "app": "your service",
    "plain": "other servers",
}


def _in_short(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return what may be claimed of the CPU, in words: the answer before the figures."""
    lines = []
    for each in cells:
        claims = [
            f"<li>{escape(sentence(finding).strip())}"
            for finding in each["findings"]
            if finding["metric"] == "cpu" and finding["verdict"] in ("more", "less")
        ]
        stops = [
            f"<li>{escape(name)} stops: {escape(why)}" for name, why in each["stopped"].items()
        ]
        said = "".join(claims + stops) or "<li>nothing that may be told from equal"
        lines.append(f"<li><b>{escape(each['name'])}</b><ul>{said}</ul>")
    return f"<details open><summary>In short</summary><ul>{''.join(lines)}</ul></details>"


def _kinds(subjects: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["handler"] or "plain" for each in subjects}


def _cell(each: Mapping[str, Any], subjects: Sequence[Mapping[str, Any]]) -> str:
    kinds = _kinds(subjects)
    rates, costs = [], []
    for name, figures in each["figures"].items():
        rate, cost, busy = figures["rate"], figures["cpu_us_per_message"], figures["is_bottleneck"]
        rates.append(charts.Bar(name, rate, f"{rate:,.0f}/s", kinds[name], hollow=not busy))
        costs.append(charts.Bar(name, cost, f"{cost:.2f} µs", kinds[name]))
    ranges = [
        charts.Range(
            f"{finding['subject']} / {finding['reference']}",
            finding["ratio"]["low"] or 0.0,
            finding["ratio"]["median"],
            finding["ratio"]["high"] or float("inf"),
            ratio(finding["ratio"]),
            finding["verdict"] in ("more", "less"),
        )
        for finding in each["findings"]
        if finding["metric"] == "cpu"
    ]
    twin = f"rate {ratio(each['twin']['rate'])}, CPU {ratio(each['twin']['cpu'])}"
    sentences = "".join(
        f"<li>{escape(sentence(finding).strip())}</li>"
        for finding in each["findings"]
        if finding["counts"]
    )
    return "".join(
        [
            f"<h2>{escape(each['name'])}</h2>",
            _UNSTABLE if each["unstable"] else "",
            *(f'<p class="soft">{line}.</p>' for line in again(each)),
            "<h3>Messages a second (more is better)</h3>",
            charts.bars(f"messages a second, {each['name']}", rates),
            "<h3>Server CPU a message (less is better)</h3>",
            charts.bars(f"CPU per message, {each['name']}", costs),
            "<h3>CPU a message as a ratio: left is cheaper, grey cannot be told from equal</h3>",
            charts.forest(f"ratios of CPU per message, {each['name']}", ranges),
            *(
                f"<p><b>{escape(name)}</b> stops here: {escape(why)}</p>"
                for name, why in each["stopped"].items()
            ),
            f"<p class=soft>The same server against its twin: {twin}.</p>",
            f"<details><summary>In words</summary><ul>{sentences}</ul></details>",
        ]
    )


def _latency(each: Mapping[str, Any], subjects: Sequence[Mapping[str, Any]]) -> str:
    kinds = _kinds(subjects)
    rows, numbers = [], []
    for name, figures in each["figures"].items():
        times = figures["latency_us"]
        steps = tuple(
            (key, times[key]) for key in ("p50", "p90", "p99", "p99.9") if times[key] is not None
        )
        if steps:
            rows.append(charts.Ladder(name, kinds[name], steps))
            numbers.append(
                [name, f"{each['offered'][name]:,.0f}", *(f"{value:,.0f}" for _, value in steps)]
            )
    head = ["", "offered/s", "p50 µs", "p90", "p99", "p99.9"]
    return "".join(
        [
            f"<h2>Latency at {escape(each['name'])}</h2>",
            _POISSON,
            charts.ladders(f"latency at {each['name']}", rows),
            _html_table(head, numbers),
            *(
                f"<p><b>{escape(name)}</b> could not keep up: {escape(why)}</p>"
                for name, why in each["stopped"].items()
            ),
            *(f'<p class="soft">{line}.</p>' for line in again(each)),
        ]
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
    return f"<h2>Memory and system calls</h2>{_html_table(head, rows)}"


def _method(found: Mapping[str, Any]) -> str:
    where = found["environment"]
    facts = {
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
    commands = "\n".join(f"{each['name']}: {' '.join(each['argv'])}" for each in found["subjects"])
    return (
        f"{_METHOD.format_map(found)}<div class=scroll><table>{rows}</table></div>"
        f"<details><summary>The servers' commands</summary><pre>{escape(commands)}</pre></details>"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}" for cell in head)]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def _or_dash(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
