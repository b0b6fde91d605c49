"""The paired runner: many short windows, every subject once a round, in random order.

The machine drifts (other work, clock speed, heat) over seconds; two windows of a tenth of a second
that lie side by side share that drift, and their ratio is free of it. Servers are restarted between
blocks, because where a process's memory happens to lie changes its speed for its whole life; within
a block each does all cells, one after the other, as a server in production does.

In a virtual machine a neighbour may get the core in the middle of a window, and the figures of that
window are the neighbour's (here, identical servers then differed by a factor of two in half of the
rounds). The kernel is told of the time that was stolen: such a window is taken again, at once. So
is one in which no reply came though nothing went wrong: somebody else had the core, and the next is
longer. Where the last try stays without a reply, too, that server has no figure in this round.
"""

from __future__ import annotations

import contextlib
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

BUSY = 0.95  # of its core: below, the server was not the bottleneck, and its rate is not its own


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of work.

    Attributes:
        name: as it stands in tables.
        load: what the generator does, as ``LoadConfig``'s arguments.
        seconds: of one window.
        warmup: before each window.
        rounds: windows of each subject; with fewer than 15, no interval is left.
        axis: what it differs in from the first cell, for the report; "" where that is nothing.
    """

    name: str
    load: Mapping[str, Any]
    seconds: float = 0.1
    warmup: float = 0.02
    rounds: int = 150
    axis: str = ""


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

    def stop(self, name: str, why: str) -> None:
        """Leave a subject out from now on, with all that was seen of it in this cell."""
        self.stopped[name] = why
        self.samples = [each for each in self.samples if each.subject != name]


def measure(
    subjects: Sequence[Subject],
    cells: Sequence[Cell],
    *,
    blocks: int = 3,
    rng: random.Random,
    kind: str = "auto",
    done: Callable[[Cell, int, int], object] | None = None,
    found: list[Series] | None = None,
    lacks: Callable[[Series], bool] = lambda series: False,
) -> list[Series]:
    """Measure every subject in every cell; each server is warmed before its first window.

    Args:
        subjects: at least one, with names of their own.
        cells: the work, with names of their own. A block goes through all of them, in this order.
        blocks: how often the servers are started anew; the rounds are dealt evenly to them.
        rng: orders the subjects within a round.
        kind: which load generator (see :func:`muxcore.load.generator`).
        done: called after each round with the cell, how many servers took part, and its number.
        found: where the series are put before the first round. They fill as it goes, and hold what
            there is when this is interrupted.
        lacks: whether the rounds of a cell do not suffice, once there are as many as it asks for:
            then it has one block more. It must not look at the differences that are judged.

    Returns:
        A series for each cell.
    """
    found = [] if found is None else found
    taking = {cell.name: [s for s in subjects if s.only in ("", cell.name)] for cell in cells}
    found += [Series(cell, order=[each.name for each in taking[cell.name]]) for cell in cells]
    block, todo = 0, found
    while todo:
        with client_core(), contextlib.ExitStack() as stack:
            servers = _Servers(stack, kind)
            for series in todo:
                cell = series.cell
                numbers = range(cell.rounds * block // blocks, cell.rounds * (block + 1) // blocks)
                with contextlib.ExitStack() as clients:
                    running = _connect(taking[cell.name], series, servers, clients)
                    for number in numbers:
                        order = [name for name in running if name not in series.stopped]
                        rng.shuffle(order)
                        for name in order:
                            _take(running[name], block, number, series)
                        if done:
                            done(cell, len(order), number)
                servers.after(series)
        block += 1
        todo = found if block < blocks else [series for series in found if lacks(series)]
    return found


class _Servers:
    """The servers of one block: each is started when it is needed first, and stays for all cells.

    One that has failed in a cell is started anew for the next.
    """

    def __init__(self, stack: contextlib.ExitStack, kind: str) -> None:
        self._stack = stack
        self.kind = kind
        self._running: dict[str, ServerProcess] = {}

    def get(self, subject: Subject, load: Mapping[str, Any]) -> ServerProcess:
        """Return a subject's server, warmed.

        Raises:
            ServerFailed: it does not start, or does not answer as it must.
        """
        server = self._running.get(subject.name)
        if server is None:
            server = self._stack.enter_context(ServerProcess(subject))
            self._running[subject.name] = server
            if not subject.fresh and not (warmed := warm(server.address, load, self.kind)).ok:
                raise ServerFailed(_why(server, warmed))
        return server

    def after(self, series: Series) -> None:
        """End those that failed in a cell, and wait until the others have seen its clients go."""
        for name in series.stopped:
            if server := self._running.pop(name, None):
                server.stop()
        for server in self._running.values():
            server.settle()


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
            self.server.settle()

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _connect(
    subjects: Sequence[Subject], series: Series, servers: _Servers, stack: contextlib.ExitStack
) -> dict[str, _Running]:
    """Connect a client to each server that can do this cell's work."""
    cell, found = series.cell, {}
    descriptors = (cell.load.get("connections", 1) + cell.load.get("idle", 0)) * len(subjects)
    crowded = descriptors > room()  # and raises the limit: the servers need theirs, too
    for subject in subjects:
        if subject.name in series.stopped:
            continue
        load = {**cell.load, **subject.load}
        try:
            server = servers.get(subject, load)
        except ServerFailed as exc:
            series.stop(subject.name, str(exc))
            continue
        config = LoadConfig(address=numeric(server.address), **load)
        running = _Running(server, config, servers.kind, crowded)
        stack.enter_context(contextlib.closing(running))
        with running.client() as source:
            first = window(source, cell.warmup, cell.seconds)  # connects; its figures are not used
        if first.ok:
            found[subject.name] = running
        else:
            series.stop(subject.name, _why(server, first))
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
            series.stop(name, _why(server, result))
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


def _why(server: ServerProcess, result: LoadResult) -> str:
    """Return in words what was wrong with a window, with the traceback that the server printed."""
    if ending := server.ending():
        return ending
    words = server.words()
    return explain(result) + (f"; it printed:\n{words}" if words else "")


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
