"""From samples to statements: figures of each subject, and what the plan's questions found."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from muxcore.compare.questions import Question
from muxcore.compare.rounds import BUSY, Sample, Series
from muxcore.compare.statistics import (
    PRECISE,
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
        cpu_us: microseconds of server CPU a message, with the interval of this median alone: what
            the machine's drift moves for all alike is in it, unlike in a ratio.
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
    cpu_us: Interval
    busy: float
    is_bottleneck: bool
    latency: Histogram
    lag: Histogram
    generator: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to a question of the plan, in one cell: the CPU a message, as a ratio."""

    question: Question
    verdict: Verdict


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


def report(series: Series, questions: Iterable[Question], comparisons: int) -> CellReport:
    """Judge a cell.

    Args:
        series: what was measured; a subject whose name ends in ``TWIN`` gives the A/A interval.
        questions: what is judged; one whose subjects were not both measured is left out.
        comparisons: in the whole report, for the correction.
    """
    by_subject = _by_subject(series)
    figures = {name: _figures(name, taken) for name, taken in by_subject.items()}
    twin = {metric: _twin(by_subject, metric) for metric in METRICS}
    findings = [
        _finding(each, by_subject, twin["cpu"].offset, comparisons)
        for each in questions
        if each.subject in by_subject and each.reference in by_subject
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
        cpu_us=median_interval([sample.cpu_us for sample in taken]),
        busy=busy,
        is_bottleneck=busy > BUSY,
        latency=latency,
        lag=lag,
        generator=taken[0].result.generator,
    )


def _by_subject(series: Series) -> dict[str, list[Sample]]:
    """Return the samples of each subject that has some, in the subjects' order."""
    found: dict[str, list[Sample]] = {name: [] for name in series.order}
    for sample in series.samples:
        found[sample.subject].append(sample)
    return {name: taken for name, taken in found.items() if taken}


def _by_round(taken: Iterable[Sample], metric: str) -> dict[int, float]:
    return {sample.round: METRICS[metric](sample) for sample in taken}


def _twin(by_subject: dict[str, list[Sample]], metric: str) -> Interval:
    for name, taken in by_subject.items():
        if name.endswith(TWIN) and (original := by_subject.get(name.removesuffix(TWIN))):
            found = ratios(_by_round(taken, metric), _by_round(original, metric))
            if found:
                return median_interval(list(found.values()))
    return Interval(float("-inf"), 1.0, float("inf"))  # no twin: nothing can be claimed


def is_precise(series: Series) -> bool:
    """Whether it is known well enough what two identical servers differ by."""
    return _twin(_by_subject(series), "cpu").reach <= 1 + PRECISE


def _finding(
    question: Question, by_subject: dict[str, list[Sample]], noise: float, comparisons: int
) -> Finding:
    taken, other = by_subject[question.subject], by_subject[question.reference]
    found = ratios(_by_round(taken, "cpu"), _by_round(other, "cpu"))
    blocks = {sample.round: sample.block for sample in taken}
    return Finding(question, judge(found, blocks, noise, corrected(comparisons)))
