"""How far a comparison is, and how long it will still take."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from muxcore.compare.rounds import Cell

_AROUND = (
    0.012  # s that a window takes beyond its length: clocks, replies that are still on the way
)
_START = 0.5  # s that a server takes to start, be warmed and end
_COSTS = 2.0  # s: memory and system calls of one server


class Progress:
    """Estimates from the plan how much each piece weighs, and from the clock what that takes.

    On a terminal one line is kept up to date; elsewhere, as in a log, a line begins each cell.

    Args:
        stream: where it is told; None means standard error.
        quiet: nothing is told.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._is_terminal = not quiet and self._stream.isatty()
        self._began = time.monotonic()
        self._total = self._done = 0.0
        self._firsts: set[str] = set()
        self._said = ""

    def plan(self, cells: Sequence[Cell], servers: int, blocks: int, extra: int = 0) -> None:
        """Count in work that will be done.

        Args:
            cells: each is done by all servers; a block begins with the first.
            servers: how many.
            blocks: how often they are started.
            extra: servers whose memory and system calls are counted.
        """
        self._firsts |= {cell.name for cell in cells[:1]}
        self._total += blocks * servers * _START + extra * _COSTS
        self._total += sum(cell.rounds * servers * _window(cell) for cell in cells)

    def round(self, cell: Cell, servers: int, number: int) -> None:
        """Hear that a round is over."""
        if cell.name in self._firsts and cell.name != self._said:
            self._done += servers * _START  # a block has begun, so they were started
        self._done += servers * _window(cell)
        more = "; the machine is restless" if number >= cell.rounds else f" of {cell.rounds}"
        self._tell(cell.name, f"round {number + 1}{more}")

    def costs(self, name: str) -> None:
        """Hear whose memory and system calls are counted now."""
        self._tell("memory and system calls", name)
        self._done += _COSTS

    def close(self) -> None:
        """Take the line back."""
        if self._is_terminal:
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    def _tell(self, what: str, how_far: str) -> None:
        if self._is_terminal:
            line = f"\r\x1b[K{self.left()}  {what}: {how_far}"
            print(line, end="", file=self._stream, flush=True)
        elif what != self._said and not self._quiet:
            print(f"{self.left()}  {what}", file=self._stream, flush=True)
        self._said = what

    def left(self) -> str:
        """Return in words how long it has been, and how long it will be."""
        elapsed = time.monotonic() - self._began
        if not 0 < self._done <= self._total:
            return _clock(elapsed)
        whole = elapsed * self._total / self._done
        return f"{_clock(elapsed)} of about {_clock(whole)}, {_clock(whole - elapsed)} left"


def _window(cell: Cell) -> float:
    return cell.seconds + cell.warmup + _AROUND


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
