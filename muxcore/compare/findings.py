"""From samples to statements: figures of each subject, and which pairs differ."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from muxcore.compare.rounds import BUSY, Sample, Series
from muxcore.compare.servers import Subject
from muxcore.compare.statistics import (
    Interval,
    Verdict,
    corrected,
    judge,
    median_interval,
    ratios,
)
from muxcore.load import Histogram

TWIN = " (twin)"
METRICS: dict[str, Callable[[Sample], float]] = {
    "rate": lambda sample: sample.rate,
    "cpu": lambda sample: sample.cpu_us,
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One subject in one cell; medians over its windows.

    Attributes:
        rate: messages a second.
        megabytes: 10^6 bytes a second, one way.
        cpu_us: microseconds of server CPU a message.
        busy: share of its core.
        is_bottleneck: whether the rate is the server's own.
        latency: of all windows together.
        lag: the generator's own lateness, likewise (open loop only).
        generator: ``native`` or ``pure``.
    """

    subject: str
    windows: int
    rate: float
    megabytes: float
    cpu_us: float
    busy: float
    is_bottleneck: bool
    latency: Histogram
    lag: Histogram
    generator: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: ``subject`` to ``reference`` in ``metric`` (rate or cpu).

    ``counts`` is false for a rate where a server was not the bottleneck: it says nothing of them.
    """

    metric: str
    subject: str
    reference: str
    verdict: Verdict
    counts: bool


@dataclass(frozen=True, slots=True)
class CellReport:
    """One cell, judged.

    Attributes:
        twin: the A/A interval of each metric.
        retaken: see :class:`Series`, as ``robbed``, ``starved`` and ``missed``.
    """

    name: str
    seconds: float
    figures: dict[str, Figures]
    findings: list[Finding]
    twin: dict[str, Interval]
    stopped: dict[str, str]
    retaken: int
    robbed: int
    starved: int
    missed: int


def pairs_of(subjects: Sequence[Subject]) -> list[tuple[str, str]]:
    """Return the (subject, reference) pairs worth comparing, each once.

    With the same handler: each engine to the first, and to the first of its own model, so that a
    native engine stands beside the pure one. Within an engine: the verb to the callback.
    """
    found: dict[tuple[str, str], None] = {}
    first: dict[tuple[str, str], str] = {}
    by_engine = {(each.engine, each.handler): each.name for each in subjects}
    for subject in subjects:
        model = subject.engine.partition("-")[2] or subject.engine
        references = [first.setdefault((key, subject.handler), subject.name) for key in ("", model)]
        if subject.handler == "verb":
            references.append(by_engine.get((subject.engine, "callback"), subject.name))
        found |= {(subject.name, each): None for each in references if each != subject.name}
    return list(found)


def report(series: Series, pairs: Iterable[tuple[str, str]], comparisons: int) -> CellReport:
    """Judge a cell.

    Args:
        series: what was measured; a subject whose name ends in ``TWIN`` gives the A/A interval.
        pairs: (subject, reference) to compare.
        comparisons: in the whole report, for the correction.
    """
    by_subject: dict[str, list[Sample]] = {name: [] for name in series.order}
    for sample in series.samples:
        by_subject[sample.subject].append(sample)
    by_subject = {name: taken for name, taken in by_subject.items() if taken}
    figures = {name: _figures(name, taken) for name, taken in by_subject.items()}
    twin = {metric: _twin(by_subject, metric) for metric in METRICS}
    findings = [
        _finding(metric, name, reference, by_subject, figures, twin[metric].offset, comparisons)
        for name, reference in pairs
        if name in by_subject and reference in by_subject
        for metric in METRICS
    ]
    return CellReport(
        name=series.cell.name,
        seconds=series.cell.seconds,
        figures={name: each for name, each in figures.items() if not name.endswith(TWIN)},
        findings=findings,
        twin=twin,
        stopped={n: why for n, why in series.stopped.items() if not n.endswith(TWIN)},
        retaken=series.retaken,
        robbed=series.robbed,
        starved=series.starved,
        missed=series.missed,
    )


def _figures(name: str, taken: Sequence[Sample]) -> Figures:
    latency, lag = Histogram(), Histogram()
    for sample in taken:
        latency.merge(sample.result.latency)
        lag.merge(sample.result.lag)
    busy = stdlib_statistics.median(sample.busy for sample in taken)
    return Figures(
        subject=name,
        windows=len(taken),
        rate=stdlib_statistics.median(sample.rate for sample in taken),
        megabytes=stdlib_statistics.median(
            sample.result.bytes_in / sample.result.seconds / 1e6 for sample in taken
        ),
        cpu_us=stdlib_statistics.median(sample.cpu_us for sample in taken),
        busy=busy,
        is_bottleneck=busy > BUSY,
        latency=latency,
        lag=lag,
        generator=taken[0].result.generator,
    )


def _by_round(taken: Iterable[Sample], metric: str) -> dict[int, float]:
    return {sample.round: METRICS[metric](sample) for sample in taken}


def _twin(by_subject: dict[str, list[Sample]], metric: str) -> Interval:
    for name, taken in by_subject.items():
        if name.endswith(TWIN) and (original := by_subject.get(name.removesuffix(TWIN))):
            found = ratios(_by_round(taken, metric), _by_round(original, metric))
            if found:
                return median_interval(list(found.values()))
    return Interval(float("-inf"), 1.0, float("inf"))  # no twin: nothing can be claimed


def _finding(
    metric: str,
    name: str,
    reference: str,
    by_subject: dict[str, list[Sample]],
    figures: dict[str, Figures],
    noise: float,
    comparisons: int,
) -> Finding:
    taken, other = by_subject[name], by_subject[reference]
    found = ratios(_by_round(taken, metric), _by_round(other, metric))
    blocks = {sample.round: sample.block for sample in taken}
    verdict = judge(found, blocks, noise, corrected(comparisons))
    own = figures[name].is_bottleneck and figures[reference].is_bottleneck
    return Finding(metric, name, reference, verdict, counts=own or metric != "rate")
