"""The comparison on a terminal: the verdict first, then every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muxcore.compare.report.table import table
from muxcore.compare.report.verdict import again, headline, plain, price, ratio, remark, trust

_FOOT = """\
Each server was warmed: before its first window clients came, talked and went ("fresh": it was not).
Ratios are medians of windows side by side, over several starts (the first table: {blocks}), with
99 % intervals, corrected for the {comparisons} comparisons that were planned. A rate in (brackets)
is not the server's own: its core was not busy.\
"""


def report(found: Mapping[str, Any]) -> str:
    """Return the whole comparison as text."""
    where = found["environment"]
    machine = f"{where['cpu']}, Linux {where['kernel']}, Python {where['python'].split()[0]}"
    generator = f"load generator: {where['load_generator']}"
    parts = [f"muxcore {where['muxcore']} on {machine}, {generator}", *found["cautions"]]
    for each in found["cells"]:
        parts += ["", cell(each)]
        if said := plain(remark(found, each)) if each["axis"] else "":
            parts.append(said)
    for each in found["latency"]:
        parts += ["", _latency(each)]
    if found["costs"]:
        parts += ["", _costs(found["costs"])]
    parts += ["", _FOOT.format_map(found), "", plain(headline(found)), trust(found).why]
    return "\n".join(parts)


def cell(each: Mapping[str, Any]) -> str:
    """Return one cell: its figures, what was concluded, and how good the measurement was."""
    rows = []
    for name, figures in each["figures"].items():
        rate = f"{figures['rate']:,.0f}"
        times = figures["latency_us"]
        rows.append(
            [
                name,
                f"{figures['cpu_us_per_message']:.2f}",
                rate if figures["is_bottleneck"] else f"({rate})",
                f"{figures['busy']:.0%}",
                _or_dash(times["p50"]),
                _or_dash(times["p99"]),
            ]
        )
    head = ["subject", "CPU us/msg", "messages/s", "busy", "p50 us", "p99 us"]
    lines = [f"== {each['name']}", table(head, rows)]
    lines += [f"{name} stops here: {why}" for name, why in each["stopped"].items()]
    lines += [f"  {finding['asks']}: {price(finding)}" for finding in each["findings"]]
    twin = each["twin"]
    lines.append(
        f"A/A (a server against its twin): CPU {ratio(twin['cpu'])}, rate {ratio(twin['rate'])}"
    )
    lines += again(each)
    if each["unstable"]:
        lines.append(
            "UNSTABLE: two identical servers differed by more than 5 %; repeat on a quiet machine"
        )
    return "\n".join(lines)


def _latency(each: Mapping[str, Any]) -> str:
    rows = []
    for name, figures in each["figures"].items():
        times = figures["latency_us"]
        numbers = [_or_dash(times[key]) for key in ("p50", "p90", "p99", "p99.9", "max")]
        rows.append(
            [name, f"{each['offered'][name]:,.0f}", *numbers, _or_dash(figures["lag_p99_us"])]
        )
    head = ["subject", "offered/s", "p50 us", "p90", "p99", "p99.9", "max", "client lag p99"]
    lines = [f"== latency at {each['name']} (Poisson, from when each was due)", table(head, rows)]
    lines += [f"{name} could not keep up: {why}" for name, why in each["stopped"].items()]
    lines += again(each)
    return "\n".join(lines)


def _costs(costs: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _or_dash(each["memory_bytes_per_connection"]),
            _or_dash(each["system_calls_per_message"], 2),
        ]
        for name, each in costs.items()
    ]
    return table(["subject", "bytes/connection", "system calls/message"], rows)


def _or_dash(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
