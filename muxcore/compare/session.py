"""A comparison from beginning to end: measure, judge, write down."""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from muxcore.compare import baseline, engines, memory, plan, record, script, syscalls, text, writing
from muxcore.compare.environment import cautions, environment
from muxcore.compare.findings import TWIN, CellReport, pairs_of, report
from muxcore.compare.page import page
from muxcore.compare.plan import Plan
from muxcore.compare.rounds import Cell, measure
from muxcore.compare.servers import Subject, app_subject

Tick = Callable[[str], None]

_REQUEST = "the quick brown fox jumps over the lazy dog, again and again..\\r\\n"


def run(options: argparse.Namespace) -> int:
    """Do what ``muxcore compare`` was asked; returns the exit code."""
    writing.check(options.json, options.html)
    earlier = baseline.read(options.baseline) if options.baseline else None
    names = engines.chosen(options.engines, report=lambda line: print(f"muxcore: {line}"))
    chosen = plan.full() if options.full else plan.quick()
    if options.app:
        subjects = [app_subject(name, options.app) for name in names]
        request = script.request_of(_REQUEST if options.request is None else options.request)
        chosen = plan.scripted(chosen, request, script.learn(subjects[0], request))
    else:
        subjects = engines.echo_subjects(names)
    rng = random.Random(options.seed)
    found = compare(subjects, chosen, rng, tick=_ticker())
    # Before a word is printed: a reader that is gone by now must not cost the figures.
    figures = writing.write(options.json, json.dumps(found, indent=1)) if options.json else ""
    report_at = writing.write(options.html, page(found))
    print(text.report(found))
    print(f"\nreport: {report_at}")
    if figures:
        print(f"figures: {figures}")
    if earlier is not None:
        lines, fell = baseline.against(found, earlier, options.fail_under)
        print("\n" + "\n".join(lines))
        if fell:
            return 1
    return 1 if record.wrong_answers(found) else 0


def compare(
    subjects: Sequence[Subject], chosen: Plan, rng: random.Random, *, tick: Tick | None = None
) -> dict[str, Any]:
    """Measure subjects by a plan and return everything found, as JSON takes it.

    Args:
        subjects: what to compare; the last is doubled for the A/A interval.
        chosen: the plan.
        rng: orders the subjects within rounds.
        tick: called with a word on how far it is.
    """
    tick = tick or (lambda word: None)
    where = environment()
    started = time.time()
    twins = [*subjects, twin_of(subjects[-1])]
    pairs = pairs_of(subjects)
    comparisons = len(pairs) * len(chosen.cells) * 2  # rate and CPU
    cells: list[tuple[Cell, CellReport]] = []
    for cell in chosen.cells:
        series = measure(
            twins, cell, rounds=chosen.rounds, blocks=chosen.blocks, rng=rng, tick=tick
        )
        cells.append((cell, report(series, pairs, comparisons)))
    latency = _latency(subjects, chosen, cells[0][1], rng, tick)
    costs: dict[str, dict[str, float | None]] = {}
    for subject in subjects if chosen.costs else ():
        tick(f"memory and system calls: {subject.name}")
        costs[subject.name] = {
            "memory_bytes_per_connection": memory.per_connection(subject, script=chosen.script),
            "system_calls_per_message": syscalls.per_message(subject, chosen.cells[0]),
        }
    tick("")
    return {
        "schema": record.SCHEMA,
        "command": shlex.join(["muxcore", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": time.time() - started,
        "environment": where,
        "cautions": cautions(where),
        "rounds": chosen.rounds,
        "blocks": chosen.blocks,
        "comparisons": comparisons,
        "subjects": [record.subject(each) for each in subjects],
        "cells": [record.cell(cell, judged) for cell, judged in cells],
        "latency": latency,
        "costs": costs,
    }


def twin_of(subject: Subject) -> Subject:
    """Return the same server under another name: what differs between the two is noise."""
    return replace(subject, name=subject.name + TWIN)


def _latency(
    subjects: Sequence[Subject], chosen: Plan, first: CellReport, rng: random.Random, tick: Tick
) -> list[dict[str, Any]]:
    highest = {name: figures.rate for name, figures in first.figures.items()}
    present = [subject for subject in subjects if subject.name in highest]
    if not present:
        return []
    slowest = min(highest.values())
    found = []
    for fraction in chosen.fractions:
        for whose in ("the slowest", "its own"):
            same = whose == "the slowest"
            rates = {n: fraction * (slowest if same else rate) for n, rate in highest.items()}
            cell = plan.latency_cell(f"{fraction:.0%} of {whose} highest rate", chosen)
            series = measure(
                present,
                cell,
                rounds=chosen.latency_rounds,
                blocks=1,
                rng=rng,
                rates=rates,
                tick=tick,
            )
            found.append(record.latency(cell, series, rates, report(series, (), 1)))
    return found


def _ticker() -> Tick:
    if not sys.stderr.isatty():
        return lambda word: None

    def tick(word: str) -> None:
        print(f"\r\x1b[K{word}", end="", file=sys.stderr, flush=True)

    return tick
