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


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells, and how much patience.

    Attributes:
        cells: the first is also where the rates for the latency cells come from.
        rounds: windows of each subject in each cell; with fewer than 15, no interval is left.
        blocks: fresh starts of the servers.
        fractions: of its own and of the slowest's highest rate: there latency is measured.
        latency_rounds: windows of each subject at each of them.
        latency_seconds: length of these windows.
        costs: whether memory and system calls are counted.
        script: the load's ``request`` and ``reply``, for a service that does not echo.
    """

    cells: tuple[Cell, ...]
    rounds: int
    blocks: int = 3
    fractions: tuple[float, ...] = (0.5,)
    latency_rounds: int = 5
    latency_seconds: float = 0.2
    costs: bool = True
    script: Mapping[str, bytes] = field(default_factory=dict)


def demo() -> Plan:
    """Return a plan of half a minute: one cell, and nothing else."""
    cell = _cell("64 B, 50 connections", seconds=0.05)
    return Plan((cell,), rounds=21, fractions=(), costs=False)


def quick() -> Plan:
    """Return a plan of about two minutes for four engines."""
    cells = (
        _cell("64 B, 50 connections", seconds=0.06),
        _cell("64 B, 500 connections", seconds=0.06, connections=500),
        _cell("16 KiB, 50 connections", seconds=0.06, size=16 * _KIB),
        _cell("64 B, 50 active of 900", seconds=0.06, idle=850),
        _cell("64 B, connect and close", seconds=0.06, workload="churn", sources=100),
    )
    return Plan(cells, rounds=18)


def full() -> Plan:
    """Return the plan of every axis: 150 rounds of a tenth of a second in each cell."""
    cells = [_cell("64 B, 50 connections")]
    cells += [_cell(f"64 B, {n:,} connections", connections=n) for n in (1, 1000, 5000, 10_000)]
    cells += [_cell(f"64 B, 50 active of {n:,}", idle=n - 50) for n in (1000, 5000)]
    cells += [_cell(f"{_name(n)}, 50 connections", size=n) for n in (_KIB, 16 * _KIB, 256 * _KIB)]
    cells += [_cell("64 B, 16 deep, 50 connections", depth=16)]
    cells += [_cell("64 B, connect and close", workload="churn", sources=100)]
    return Plan(
        tuple(cells), rounds=150, fractions=(0.25, 0.5, 0.8), latency_rounds=15, latency_seconds=0.3
    )


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
    """Return the open-loop cell of a name; the rates are given when it is measured."""
    load = {"connections": 50, "poisson": True, "reply_timeout": _REPLY_TIMEOUT, **plan.script}
    return Cell(name, load, seconds=plan.latency_seconds)


def _cell(name: str, *, size: int = 64, seconds: float = 0.1, **load: Any) -> Cell:
    load.setdefault("connections", 50)
    if load["connections"] + load.get("idle", 0) >= _MANY:
        load.setdefault("sources", 100)
    load |= {"sizes": ((size, 1.0),), "reply_timeout": _REPLY_TIMEOUT}
    return Cell(name, load, seconds=seconds, warmup=seconds / 5)


def _name(size: int) -> str:
    return f"{size // _KIB} KiB" if size >= _KIB else f"{size} B"
