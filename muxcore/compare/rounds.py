"""The paired runner: many short windows, every subject once a round, in random order.

The machine drifts (other work, clock speed, heat) over seconds; two windows of a tenth of a second
that lie side by side share that drift, and their ratio is free of it. Servers are restarted between
blocks, because where a process's memory happens to lie changes its speed for its whole life.

In a virtual machine a neighbour may get the core in the middle of a window, and the figures of that
window are his (here, identical servers then differed by a factor of two in half of the rounds). The
kernel is told of the time that was stolen: such a window is taken again, at once. So is one in
which no reply came though nothing went wrong: somebody else had the core, and the next is longer.
Where the last try stays without a reply, too, that server has no figure in this round.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from muxcore.compare.accounting import stolen_ns
from muxcore.compare.servers import ServerFailed, ServerProcess, Subject, client_core, cores
from muxcore.compare.warming import warm
from muxcore.load import Generator, LoadConfig, LoadResult, Phase, generator, numeric, window
from muxcore.load.sharding import room

_TRIES = 4  # of a window: where half of them are robbed, one in sixteen stays so
_LONGER = 3  # times as long is the next try of a window without a reply: the last is 27 times so

_SETTLED_WITHIN = 5.0  # s: the ends of 10,000 connections take a slow server a tenth of that

BUSY = 0.95  # of its core: below, the server was not the bottleneck, and its rate is not its own


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of work.

    Attributes:
        name: as it stands in tables.
        load: what the generator does, as ``LoadConfig``'s arguments.
        seconds: of one window.
        warmup: before each window.
    """

    name: str
    load: Mapping[str, Any]
    seconds: float = 0.1
    warmup: float = 0.02


@dataclass(slots=True)
class Sample:
    """One window of one subject.

    Attributes:
        round: counted over all blocks: samples of one round are compared with each other.
        rate: messages a second.
        cpu_us: microseconds of the server's CPU a message.
        busy: the share of the window the server was on a core; above 1 where it used several.
        result: the generator's.
    """

    subject: str
    block: int
    round: int
    rate: float
    cpu_us: float
    busy: float
    result: LoadResult


@dataclass(slots=True)
class Series:
    """Everything that was seen of one cell.

    Attributes:
        stopped: subjects that failed, and how; their samples are left out.
        order: the subjects' names, as they were given.
        retaken: how often a window was taken again, because time was stolen from it.
        robbed: how many windows were kept although time was, at the last try.
        starved: how often a window was taken again, because no reply came in it and nothing failed.
        missed: in how many rounds a subject has no sample: no reply came in the last try either.
    """

    cell: Cell
    samples: list[Sample] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    retaken: int = 0
    robbed: int = 0
    starved: int = 0
    missed: int = 0


def measure(
    subjects: Sequence[Subject],
    cell: Cell,
    *,
    rounds: int,
    blocks: int = 3,
    rng: random.Random,
    rates: Mapping[str, float] | None = None,
    kind: str = "auto",
    tick: Callable[[str], None] | None = None,
) -> Series:
    """Measure every subject in ``rounds`` rounds; each server is warmed before its first one.

    Args:
        subjects: at least one, with names of their own.
        cell: the work.
        rounds: in all, dealt evenly to the blocks.
        blocks: how often the servers are started anew.
        rng: orders the subjects within a round.
        rates: the open loop's messages a second, by subject; None is what the cell says.
        kind: which load generator (see :func:`muxcore.load.generator`).
        tick: called with a word after each round, for a display.
    """
    series = Series(cell, order=[subject.name for subject in subjects])
    descriptors = (cell.load.get("connections", 1) + cell.load.get("idle", 0)) * len(subjects)
    crowded = descriptors > room()  # and raises the limit: the servers need theirs, too
    done = 0
    for block in range(blocks):
        upto = rounds * (block + 1) // blocks
        with client_core(), contextlib.ExitStack() as stack:
            running = _start(subjects, cell, rates or {}, kind, crowded, stack, series)
            for number in range(done, upto):
                order = [name for name in running if name not in series.stopped]
                rng.shuffle(order)
                for name in order:
                    _take(running[name], block, number, series)
                if tick:
                    tick(f"{cell.name}: {number + 1}/{rounds}")
        done = upto
    series.samples = [each for each in series.samples if each.subject not in series.stopped]
    return series


class _Running:
    """A server and its client.

    The client keeps its connections from window to window; where this process may not have those of
    all clients at once, each connects before its window, and is gone after it.
    """

    def __init__(self, server: ServerProcess, load: LoadConfig, kind: str, crowded: bool) -> None:
        self.server = server
        self._load = load
        self._kind = kind
        self._kept = None if crowded else generator(load, kind)

    @contextlib.contextmanager
    def client(self) -> Iterator[Generator]:
        if self._kept is not None:
            yield self._kept
            return
        source = generator(self._load, self._kind)
        try:
            yield source
        finally:
            source.close()
            self._settle()

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _settle(self) -> None:
        """Wait until the server has seen all connections end: the core is the next one's."""
        give_up, before = time.monotonic() + _SETTLED_WITHIN, -math.inf
        while (now := self.server.cpu_ns()) - before > 1e6 and time.monotonic() < give_up:
            before = now
            time.sleep(0.01)  # a process does not tell that it is idle: its clock stands still


def _start(
    subjects: Sequence[Subject],
    cell: Cell,
    rates: Mapping[str, float],
    kind: str,
    crowded: bool,
    stack: contextlib.ExitStack,
    series: Series,
) -> dict[str, _Running]:
    found = {}
    for subject in subjects:
        if subject.name in series.stopped:
            continue
        try:
            server = stack.enter_context(ServerProcess(subject))
        except ServerFailed as exc:
            series.stopped[subject.name] = str(exc)
            continue
        load = dict(cell.load)
        if subject.name in rates:
            load["rate"] = rates[subject.name]
        warmed = warm(server.address, load, kind)
        if not warmed.ok:
            series.stopped[subject.name] = server.ending() or explain(warmed)
            continue
        config = LoadConfig(address=numeric(server.address), **load)
        running = stack.enter_context(contextlib.closing(_Running(server, config, kind, crowded)))
        with running.client() as source:
            first = window(source, cell.warmup, cell.seconds)  # connects; its figures are not used
        if not first.ok:
            series.stopped[subject.name] = server.ending() or explain(first)
            continue
        found[subject.name] = running
    return found


def _take(running: _Running, block: int, number: int, series: Series) -> None:
    server = running.server
    clocks: dict[Phase, tuple[float, int]] = {}

    def read(phase: Phase) -> None:
        # The server goes on while its clocks are read: the middle of that time is the moment.
        before = time.monotonic()
        cpu = server.cpu_ns()
        after = time.monotonic()
        clocks[phase] = (before if phase is Phase.DRAINING else (before + after) / 2, cpu)

    name, seconds = server.subject.name, series.cell.seconds
    for tries in range(1, _TRIES + 1):
        with running.client() as source:
            stolen = stolen_ns(cores()[:2])
            result = window(source, series.cell.warmup, seconds, at_phase=read)
            was_robbed = stolen_ns(cores()[:2]) > stolen
        if not result.ok:
            series.stopped[name] = server.ending() or explain(result)
            return
        if (result.received and not was_robbed) or tries == _TRIES:
            break
        if result.received:
            series.retaken += 1
        else:
            series.starved += 1
            seconds *= _LONGER
    if not result.received:
        series.missed += 1
        return
    series.robbed += was_robbed
    started, cpu_before = clocks[Phase.MEASURING]
    ended, cpu_after = clocks[Phase.DRAINING]
    wall, cpu = ended - started, cpu_after - cpu_before
    series.samples.append(
        Sample(
            subject=name,
            block=block,
            round=number,
            rate=result.received / wall,
            cpu_us=cpu / 1000 / result.received,
            busy=cpu / 1e9 / wall,
            result=result,
        )
    )


def explain(result: LoadResult) -> str:
    """Return in words what was wrong with a window."""
    parts = [f"{count} x {kind}" for kind, count in result.errors.items()]
    if result.lost:
        parts.append(f"{result.lost} replies lost")
    if result.overdue:
        parts.append(f"{result.overdue} messages overdue")
    if result.first_error:
        parts.append(result.first_error)
    return "; ".join(parts) or "no connection"
