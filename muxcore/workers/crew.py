"""The processes of a parent, as it sees them."""

from __future__ import annotations

from muxcore.workers import worker as program
from muxcore.workers.fresh import Process
from muxcore.workers.places import Place


class Worker:
    """A process of the parent's.

    Attributes:
        process: it.
        prepared: it has imported all, and can be given a place.
        place: what it serves; None: it is a spare.
        ready_at: monotonic(), when it said that it serves.
        leaves: it drains, by somebody's signal: its place is another one's.
        has_closed: it says nothing any more, and is about to end.
        cell: the number of the one that it counts in, once it has a place.
        why: what it said why it cannot.
    """

    def __init__(self) -> None:
        self.process = Process(program.main)
        self.prepared = False
        self.place: Place | None = None
        self.ready_at: float | None = None
        self.leaves = self.has_closed = False
        self.cell = 0
        self.why = ""

    def name(self) -> str:
        """Return what it is, for the log."""
        what = "the spare worker" if self.place is None else f"worker {self.place.number}"
        return f"{what} (pid {self.process.pid})"


def most_of(count: int) -> int:
    """Return how many workers there may be at the most where there were ``count`` at first."""
    return max(2 * count, count + 8)
