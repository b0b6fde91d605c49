"""What a comparison found, as JSON takes it: table and report are made of this."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from muxcore.compare.findings import CellReport, Figures, Finding
from muxcore.compare.rounds import Cell, Series
from muxcore.compare.servers import Subject
from muxcore.compare.statistics import UNSTABLE, Interval
from muxcore.load.result import PERCENTILES

SCHEMA = 2


def subject(each: Subject) -> dict[str, Any]:
    """Return a subject."""
    return {
        "name": each.name,
        "engine": each.engine,
        "handler": each.handler,
        "fresh": each.fresh,
        "argv": list(each.argv),
    }


def cell(work: Cell, judged: CellReport) -> dict[str, Any]:
    """Return one cell's figures and findings."""
    return {
        "name": work.name,
        "axis": work.axis,
        "load": {key: _text(value) for key, value in work.load.items()},
        "window_seconds": work.seconds,
        "rounds": work.rounds,
        "figures": {name: _figures(each) for name, each in judged.figures.items()},
        "findings": [_finding(each) for each in judged.findings],
        "twin": {metric: interval(each) for metric, each in judged.twin.items()},
        "unstable": judged.twin["cpu"].reach > 1 + UNSTABLE,
        "stopped": dict(judged.stopped),
        **_windows(judged),
    }


def latency(series: Series, rates: Mapping[str, float], judged: CellReport) -> dict[str, Any]:
    """Return the latency at given rates."""
    return {
        "name": series.cell.name,
        "offered": dict(rates),
        "figures": {name: _figures(each) for name, each in judged.figures.items()},
        "stopped": dict(series.stopped),
        **_windows(judged),
    }


def wrong_answers(found: Mapping[str, Any]) -> list[str]:
    """Return what gave wrong bytes: that is no limit of an engine but a fault."""
    return [
        f"{each['name']}: {name}: {why}"
        for each in [*found["cells"], *found["latency"]]
        for name, why in each["stopped"].items()
        if "corrupt" in why
    ]


def _figures(each: Figures) -> dict[str, Any]:
    return {
        "windows": each.windows,
        "rate": each.rate,
        "megabytes_per_second": each.megabytes,
        "cpu_us_per_message": each.cpu_us.median,
        "cpu_us_interval": interval(each.cpu_us),
        "busy": each.busy,
        "is_bottleneck": each.is_bottleneck,
        "generator": each.generator,
        "latency_us": {
            **{f"p{p:g}": _number(each.latency.percentile(p) / 1000) for p in PERCENTILES},
            "max": _number(each.latency.percentile(100) / 1000),
        },
        "lag_p99_us": _number(each.lag.percentile(99) / 1000),
    }


def _windows(judged: CellReport) -> dict[str, int]:
    return {
        "windows_retaken": judged.retaken,
        "windows_robbed": judged.robbed,
        "windows_starved": judged.starved,
        "windows_missed": judged.missed,
    }


def _finding(each: Finding) -> dict[str, Any]:
    return {
        "subject": each.question.subject,
        "reference": each.question.reference,
        "asks": each.question.asks,
        "ratio": interval(each.verdict.interval),
        "verdict": each.verdict.word,
    }


def interval(each: Interval) -> dict[str, float | None]:
    """Return an interval as JSON takes it."""
    return {"low": _number(each.low), "median": each.median, "high": _number(each.high)}


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _number(value: float) -> float | None:
    """Return None, JSON's null, where there is no number: JSON has no infinity."""
    return value if math.isfinite(value) else None
