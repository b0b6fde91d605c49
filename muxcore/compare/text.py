"""The comparison on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muxcore.compare.table import table

_FOOT = """\
Each server was warmed: before its first window clients came, talked and went. Ratios are medians
over {rounds} rounds and {blocks} starts with 99 % intervals, corrected for {comparisons}
comparisons. A rate in (brackets) is not the server's own: its core was not busy.\
"""


def report(found: Mapping[str, Any]) -> str:
    """Return the whole comparison as text."""
    where = found["environment"]
    machine = f"{where['cpu']}, Linux {where['kernel']}, Python {where['python'].split()[0]}"
    generator = f"load generator: {where['load_generator']}"
    parts = [f"muxcore {where['muxcore']} on {machine}, {generator}", *found["cautions"]]
    for each in found["cells"]:
        parts += ["", cell(each)]
    for each in found["latency"]:
        parts += ["", _latency(each)]
    if found["costs"]:
        parts += ["", _costs(found["costs"])]
    parts += ["", _FOOT.format_map(found)]
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
                rate if figures["is_bottleneck"] else f"({rate})",
                f"{figures['cpu_us_per_message']:.2f}",
                f"{figures['busy']:.0%}",
                _or_dash(times["p50"]),
                _or_dash(times["p99"]),
            ]
        )
    head = ["subject", "messages/s", "CPU us/msg", "busy", "p50 us", "p99 us"]
    lines = [f"== {each['name']}", table(head, rows)]
    lines += [f"{name} stops here: {why}" for name, why in each["stopped"].items()]
    lines += [sentence(finding) for finding in each["findings"] if finding["metric"] == "cpu"]
    lines += [
        sentence(finding)
        for finding in each["findings"]
        if finding["metric"] == "rate" and finding["counts"]
    ]
    twin = each["twin"]
    lines.append(
        f"A/A (a server against its twin): rate {ratio(twin['rate'])}, CPU {ratio(twin['cpu'])}"
    )
    lines += again(each)
    if each["unstable"]:
        lines.append(
            "UNSTABLE: two identical servers differed by more than 5 %; repeat on a quiet machine"
        )
    return "\n".join(lines)


def sentence(finding: Mapping[str, Any]) -> str:
    """Return a finding in words."""
    verdict, metric = finding["verdict"], finding["metric"]
    what = "CPU per message" if metric == "cpu" else "rate"
    words = {
        "more": f"{what} higher than",
        "less": f"{what} lower than",
        "no difference": f"{what}: no difference to",
        "unclear": f"{what}: unclear, the windows differ too much, against",
        "too few rounds": f"{what}: too few rounds to say against",
    }
    return (
        f"  {finding['subject']}: {words[verdict]} {finding['reference']}, "
        f"{ratio(finding['ratio'])}"
    )


def again(each: Mapping[str, Any]) -> list[str]:
    """Return in sentences which windows of this cell were taken again, and which are missing."""
    lines = []
    retaken, kept = each["windows_retaken"], each["windows_robbed"]
    starved, missed = each["windows_starved"], each["windows_missed"]
    if retaken:
        lines.append(
            f"Others had the core in {retaken + kept:,} windows (stolen time): "
            f"{retaken:,} were taken again, {kept:,} kept at the last try"
        )
    if starved:
        lines.append(
            f"No reply came in {starved + missed:,} windows, and nothing failed (a busy machine): "
            f"{starved:,} were taken again and longer, {missed:,} are missing"
        )
    return lines


def ratio(interval: Mapping[str, float | None]) -> str:
    """Return a ratio with its interval."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return f"x{interval['median']:.3f} [no interval]"
    return f"x{interval['median']:.3f} [{low:.3f}, {high:.3f}]"


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
