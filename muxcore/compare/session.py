"""A comparison from beginning to end: measure, judge, write down.

It may be interrupted at any moment: what was measured until then is judged and written, too.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from muxcore.compare import (
    baseline,
    memory,
    plan,
    questions,
    record,
    script,
    subjects,
    syscalls,
    writing,
)
from muxcore.compare.environment import cautions, environment
from muxcore.compare.findings import TWIN, is_precise, report
from muxcore.compare.plan import Plan
from muxcore.compare.progress import Progress
from muxcore.compare.report import card, markdown, text
from muxcore.compare.report.page import page
from muxcore.compare.rounds import Series, measure
from muxcore.compare.servers import Subject
from muxcore.load.interrupts import number_of

_REQUEST = "the quick brown fox jumps over the lazy dog, again and again..\\r\\n"


def run(options: argparse.Namespace) -> int:
    """Do what ``muxcore compare`` was asked; returns the exit code."""
    html = writing.place(options.html, Path("report.html"))
    writing.check(options.json, html, options.card)
    earlier = baseline.read(options.baseline) if options.baseline else None
    chosen = plan.full() if options.full else plan.quick() if options.quick else plan.usual()
    with tempfile.TemporaryDirectory(prefix="muxcore-") as folder:
        if options.app:
            compared = subjects.apps(options.engines, options.app, _tell)
            request = script.request_of(_REQUEST if options.request is None else options.request)
            chosen = plan.scripted(chosen, request, script.learn(compared[0], request))
        else:
            compared = subjects.chosen(options.engines, Path(folder), _tell)
        found = compare(compared, chosen, random.Random(options.seed), progress=Progress())
    if not any(each["figures"] for each in found["cells"]):
        return _nothing(found)
    # Before a word is printed: a reader that is gone by now must not cost the figures.
    written = [("report", writing.write(html, page(found)))]
    if options.json:
        written.append(("figures", writing.write(options.json, json.dumps(found, indent=1))))
    if options.card:
        written.append(("card", writing.write(options.card, card.card(found))))
    print(markdown.markdown(found) if options.markdown else text.report(found))
    for what, where in written:
        print(f"{what}: {where}", file=sys.stderr if options.markdown else sys.stdout)
    return found["interrupted"] or _verdict(found, earlier, options.fail_under)


def compare(
    compared: Sequence[Subject],
    chosen: Plan,
    rng: random.Random,
    *,
    progress: Progress | None = None,
    comparisons: int | None = None,
) -> dict[str, Any]:
    """Measure subjects by a plan and return everything found, as JSON takes it.

    A signal that asks for the end (see ``load/interrupts.py``) ends the measuring alone: what is
    there is returned, and ``interrupted`` is the exit status that the signal makes.

    Args:
        compared: what to compare; the last that is warmed is doubled for the A/A interval.
        chosen: the plan.
        rng: orders the subjects within rounds.
        progress: told how far it is.
        comparisons: for how many the intervals are corrected; None means those that are planned.
    """
    progress = progress or Progress(quiet=True)
    where, started = environment(), time.time()
    first = chosen.cells[0].name
    taken = [replace(each, only=first) if each.fresh else each for each in compared]
    taken += questions.without_idle(taken, chosen.cells)
    planned = questions.planned(taken)
    comparisons = comparisons or questions.count(planned, taken, len(chosen.cells))
    warmed = [each for each in compared if not each.fresh]
    latency: list[tuple[Series, dict[str, float]]] = []
    costs: dict[str, dict[str, float | None]] = {}
    series: list[Series] = []
    interrupted = 0
    progress.plan(
        chosen.cells, len(compared) + 1, chosen.blocks, len(warmed) if chosen.costs else 0
    )
    try:
        measure(
            [*taken, twin_of(warmed[-1])],
            chosen.cells,
            blocks=chosen.blocks,
            rng=rng,
            done=progress.round,
            found=series,
            lacks=lambda each: _lacks(each, chosen, len(compared) + 1, progress),
        )
        _latency(warmed, chosen, series[0], rng, progress, latency)
        for each in warmed if chosen.costs else ():
            progress.costs(each.name)
            costs[each.name] = {
                "memory_bytes_per_connection": memory.per_connection(each, script=chosen.script),
                "system_calls_per_message": syscalls.per_message(each, chosen.cells[0]),
            }
    except KeyboardInterrupt as exc:
        interrupted = 128 + number_of(exc)
    finally:
        progress.close()
    return {
        "schema": record.SCHEMA,
        "command": shlex.join(["muxcore", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": time.time() - started,
        "interrupted": interrupted,
        "environment": where,
        "cautions": cautions(where),
        "blocks": max((each.block + 1 for each in series[0].samples), default=0) if series else 0,
        "comparisons": comparisons,
        "subjects": [record.subject(each) for each in compared],
        "cells": [record.cell(each.cell, report(each, planned, comparisons)) for each in series],
        "latency": [record.latency(each, rates, report(each, (), 1)) for each, rates in latency],
        "costs": costs,
    }


def _lacks(series: Series, chosen: Plan, servers: int, progress: Progress) -> bool:
    """Whether the quoted cell is to go on: how much it may differ by itself is not known yet."""
    first = chosen.cells[0]
    had = 1 + max((each.round for each in series.samples), default=0)
    if series.cell is not first or had >= chosen.patience * first.rounds or is_precise(series):
        return False
    progress.plan([replace(first, rounds=first.rounds // chosen.blocks)], servers, 1)
    return True


def twin_of(subject: Subject) -> Subject:
    """Return the same server under another name: what differs between the two is noise."""
    return replace(subject, name=subject.name + TWIN)


def _latency(
    compared: Sequence[Subject],
    chosen: Plan,
    first: Series,
    rng: random.Random,
    progress: Progress,
    found: list[tuple[Series, dict[str, float]]],
) -> None:
    highest = {name: each.rate for name, each in report(first, (), 1).figures.items()}
    present = [each for each in compared if each.name in highest]
    for fraction in chosen.fractions if present else ():
        for whose in ("the slowest", "its own"):
            slowest = min(highest[each.name] for each in present)
            same = whose == "the slowest"
            rates = {
                each.name: fraction * (slowest if same else highest[each.name]) for each in present
            }
            cell = plan.latency_cell(f"{fraction:.0%} of {whose} highest rate", chosen)
            offered = [replace(each, load={"rate": rates[each.name]}) for each in present]
            progress.plan([cell], len(present), 1)
            series: list[Series] = []
            try:
                measure(offered, [cell], blocks=1, rng=rng, done=progress.round, found=series)
            finally:
                found += [(each, rates) for each in series if each.samples]


def _verdict(found: dict[str, Any], earlier: dict[str, Any] | None, least: float | None) -> int:
    """Set the figures beside the baseline, if there is one; return the exit code."""
    if earlier is not None:
        lines, fell = baseline.against(found, earlier, least)
        print("\n" + "\n".join(lines))
        if fell:
            return 1
    return 1 if record.wrong_answers(found) else 0


def _nothing(found: dict[str, Any]) -> int:
    """Say that there is no figure at all, and why; return the exit code."""
    why = [f"{name}: {said}" for each in found["cells"] for name, said in each["stopped"].items()]
    reason = "\n".join(dict.fromkeys(why)) or "it was ended before the first window"
    print(
        f"muxcore compare: nothing was measured, and nothing is written: {reason}", file=sys.stderr
    )
    return found["interrupted"] or 1


def _tell(line: str) -> None:
    print(f"muxcore: {line}", file=sys.stderr)
