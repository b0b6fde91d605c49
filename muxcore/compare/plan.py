"""What a comparison does: which work, how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from muxcore.compare.rounds import Cell

_KIB = 1024
_MANY = 5_000  # connections that may be opened anew for each window: beyond one address's ports
_REPLY_TIMEOUT = (
    10.0  # seconds: forking 1,000 children takes some of them, so does a stalled server
)
# Rounds. A median's interval is as wide as 1 / sqrt(rounds): where windows scatter by 5 %, 90 of
# them tell 3 % from nothing, and 30 tell 6 %. The first cell is the one that is quoted: where the
# windows scatter by more it goes on, as here with a restless neighbour, by 10 %: 360 tell 3 % then.
_QUOTED, _OTHERS, _FEWEST = 90, 30, 18
_PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells, and how much patience.

    Attributes:
        cells: the first is the one that is quoted, and where the latency cells' rates come from.
        blocks: fresh starts of the servers.
        fractions: of its own and of the slowest's highest rate: there latency is measured.
        latency_rounds: windows of each subject at each of them.
        latency_seconds: length of these windows.
        costs: whether memory and system calls are counted.
        patience: up to so many times its rounds the first cell goes on where the machine is too
            restless for what two identical servers differ by to be known.
        script: the load's ``request`` and ``reply``, for a service that does not echo.
    """

    cells: tuple[Cell, ...]
    blocks: int = 3
    fractions: tuple[float, ...] = (0.5,)
    latency_rounds: int = 5
    latency_seconds: float = 0.2
    costs: bool = True
    patience: int = 1
    script: Mapping[str, bytes] = field(default_factory=dict)


def demo() -> Plan:
    """Return a plan of half a minute: one cell, and nothing else."""
    return Plan((_cell(seconds=0.05, rounds=21),), fractions=(), costs=False)


def quick() -> Plan:
    """Return a plan that is done in less than two minutes: what is quoted, and two axes."""
    cells = (
        _cell(seconds=0.05, rounds=30),
        _cell("connections", seconds=0.05, rounds=_FEWEST, connections=500),
        _cell("size", seconds=0.05, rounds=_FEWEST, size=16 * _KIB),
    )
    return Plan(cells, blocks=2, fractions=(), costs=False)  # a start takes a second


def usual() -> Plan:
    """Return the plan of `muxcore compare`: every axis once or twice.

    Some six minutes, and up to five more for the first cell.
    """
    cells = (
        _cell(seconds=0.06, rounds=_QUOTED),
        _cell("connections", seconds=0.06, rounds=_OTHERS, connections=1),
        _cell("connections", seconds=0.06, rounds=_OTHERS, connections=500),
        _cell("size", seconds=0.06, rounds=_OTHERS, size=16 * _KIB),
        _cell("idle", seconds=0.06, rounds=_OTHERS, idle=850),
        _cell("churn", seconds=0.06, rounds=_OTHERS, workload="churn", sources=100),
    )
    return Plan(cells, patience=_PATIENCE)


def full() -> Plan:
    """Return the plan of every axis: 150 rounds of a tenth of a second in each cell."""
    cells = [_cell()]
    cells += [_cell("connections", connections=n) for n in (1, 8, 1000, 5000, 10_000)]
    cells += [_cell("size", size=n) for n in (_KIB, 16 * _KIB, 256 * _KIB)]
    cells += [_cell("depth", depth=16)]
    cells += [_cell("idle", idle=n - 50) for n in (1000, 5000)]
    cells += [_cell("churn", workload="churn", sources=100)]
    return Plan(tuple(cells), fractions=(0.25, 0.5, 0.8), latency_rounds=15, latency_seconds=0.3)


def scripted(whole: Plan, request: bytes, reply: bytes) -> Plan:
    """Return a plan whose messages are all this request: cells that differ by size only go."""
    script = {"request": request, "reply": reply}
    cells = [
        replace(cell, name=cell.name.replace("64 B", "the request"), load={**cell.load, **script})
        for cell in whole.cells
        if cell.load["sizes"] == ((64, 1.0),)
    ]
    return replace(whole, cells=tuple(cells), script=script)


def latency_cell(name: str, plan: Plan) -> Cell:
    """Return the open-loop cell of a name; each subject's rate is its own."""
    load = {"connections": 50, "poisson": True, "reply_timeout": _REPLY_TIMEOUT, **plan.script}
    return Cell(name, load, seconds=plan.latency_seconds, rounds=plan.latency_rounds)


def _cell(
    axis: str = "", *, size: int = 64, seconds: float = 0.1, rounds: int = 150, **load: Any
) -> Cell:
    load.setdefault("connections", 50)
    if load["connections"] + load.get("idle", 0) >= _MANY:
        load.setdefault("sources", 100)
    load |= {"sizes": ((size, 1.0),), "reply_timeout": _REPLY_TIMEOUT}
    return Cell(_name(size, load), load, seconds, seconds / 5, rounds, axis)


def _name(size: int, load: Mapping[str, Any]) -> str:
    """Return a cell's name, which says all that makes it another: "64 B, 50 connections"."""
    amount = f"{size // _KIB} KiB" if size >= _KIB else f"{size} B"
    connections, idle = load["connections"], load.get("idle", 0)
    if load.get("workload") == "churn":
        return f"{amount}, connect and close"
    deep = f", {load['depth']} deep" if "depth" in load else ""
    if idle:
        return f"{amount}{deep}, {connections} active of {connections + idle:,}"
    return f"{amount}{deep}, {connections:,} connection{'s' * (connections > 1)}"
