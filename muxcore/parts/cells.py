"""Counters in memory that processes share: a cell for each that counts, and any of them reads all.

Only one process writes into a cell, word by word, so that nothing is locked and one that is killed
leaves what it has counted. A cell begins as the C core's ``mux_stats`` (csrc/options.h) does, which
counts in there itself; errors that Python has names for follow.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from muxcore.stats import Stats

SIZE = 16_384  # bytes of a cell: whole pages, of which those that nobody touches cost nothing
MOVERS = 10  # of one process, whose bytes are counted, too
WORD = 8  # bytes; an aligned word is written in one piece
OPEN, _TOTAL, _BYTES_IN, _BYTES_OUT, _OUTGOING = range(1, 6)
_NAMED = ("IdleTimeout", "HalfCloseTimeout", "CloseTimeout", "refused", "accept")
_NAMED_AT = 7
_ERRNO, _SERVING, WORDS = 12, 146, 147  # errors by number lie between the first two
_KINDS_AT, _MOVERS_AT = 1536, 4096  # bytes


class Kinds:
    """Errors counted by name, in a piece of shared memory.

    Args:
        memory: at least ``SIZE`` bytes, zero at first.
    """

    COUNT = 32  # kinds counted apart; later ones are counted as "other"
    NAME = 40  # bytes of a kind's name
    SIZE = COUNT * (WORD + NAME)

    def __init__(self, memory: memoryview) -> None:
        self._counts = memory[: self.COUNT * WORD].cast("Q")
        self._names = memory[self.COUNT * WORD : self.SIZE]

    def count(self, kind: str, more: int = 1) -> None:
        """Count an error by its kind."""
        name = packed(kind)
        for index in range(self.COUNT):
            here = self._names[index * self.NAME :][: self.NAME]
            if index == self.COUNT - 1:
                name = packed("other")
            if here[0] == 0:
                here[:] = name
            if here == name:
                self._counts[index] += more
                return

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield each kind, and how often it was counted."""
        for index in range(self.COUNT):
            kind = unpacked(self._names[index * self.NAME :][: self.NAME])
            if kind:
                yield kind, self._counts[index]


class Cell(Stats):
    """One process's counters in a cell: the same as ``Stats``, but others see them.

    Args:
        memory: what it lies in.
        at: its first byte.

    Attributes:
        memory, at: the same.
        serving: it is a worker's that takes clients; for the parent to say.
    """

    __slots__ = ("_errors", "_kinds", "_moved", "_words", "at", "memory")

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self.memory, self.at = memory, at
        view = memoryview(memory)[at:][:SIZE]
        self._words = view[: WORDS * WORD].cast("Q")
        self._kinds = Kinds(view[_KINDS_AT:][: Kinds.SIZE])
        self._errors = _Errors(self._kinds)
        self._moved = view[_MOVERS_AT:][: MOVERS * WORDS * WORD].cast("Q")

    def mover_at(self, number: int) -> int:
        """Return the byte where a mover counts as a process does; the first is number 0."""
        return self.at + _MOVERS_AT + number * WORDS * WORD

    @property
    def serving(self) -> bool:
        return bool(self._words[_SERVING])

    @serving.setter
    def serving(self, serving: bool) -> None:
        self._words[_SERVING] = serving

    def clear(self) -> None:
        """Begin anew."""
        self.memory[self.at : self.at + SIZE] = bytes(SIZE)

    def snapshot(self) -> Stats:
        stats = stats_of(self._words)
        for kind, count in self._kinds.items():
            stats.errors[kind] += count
        stats.bytes_in += sum(self._moved[_BYTES_IN::WORDS])
        stats.bytes_out += sum(self._moved[_BYTES_OUT::WORDS])
        return stats


def _word(index: int) -> Any:
    """Return a property that is a word of a cell."""

    def get(cell: Cell) -> int:
        return cell._words[index]

    def put(cell: Cell, value: int) -> None:
        cell._words[index] = value

    return property(get, put)


# The dataclass has slots of these names, which would be values of this process alone.
for _at, _field in enumerate(("open", "total", "bytes_in", "bytes_out", "outgoing"), OPEN):
    setattr(Cell, _field, _word(_at))
setattr(Cell, "errors", property(lambda cell: cell._errors))  # noqa: B010


class _Errors(Counter[str]):
    """An engine's own count of its errors, which counts them in its cell, too."""

    def __init__(self, kinds: Kinds) -> None:
        super().__init__()
        self._kinds = kinds

    def __setitem__(self, kind: str, count: int) -> None:
        self._kinds.count(kind, count - self[kind])
        super().__setitem__(kind, count)


class Cells:
    """So many cells, in a file that a process can be given.

    Args:
        count: how many.
        descriptor: of the file, which is this object's from now on; None: of a new one.

    Attributes:
        descriptor: the same.
    """

    def __init__(self, count: int, descriptor: int | None = None) -> None:
        self.descriptor = _new_file(count * SIZE) if descriptor is None else descriptor
        memory = mmap.mmap(self.descriptor, count * SIZE)
        self._cells = [Cell(memory, at * SIZE) for at in range(count)]

    def __getitem__(self, index: int) -> Cell:
        return self._cells[index]

    def __len__(self) -> int:
        return len(self._cells)

    def close(self) -> None:
        """Close the file, and forget the cells; each stays for who has it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._cells.clear()  # the last of them takes the mapping's own descriptor along


def _new_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("muxcore cells")
    else:  # Python was built on a glibc before 2.27
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def stats_of(words: Sequence[int]) -> Stats:
    """Return what a ``mux_stats`` says, which is given as its words."""
    errors: Counter[str] = Counter()
    for number, count in enumerate(words[_ERRNO:_SERVING]):
        if count:
            errors[type(OSError(number, "")).__name__] += count
    for index, kind in enumerate(_NAMED, _NAMED_AT):
        if words[index]:
            errors[kind] += words[index]
    return Stats(
        words[OPEN],
        words[_TOTAL],
        words[_OUTGOING],
        words[_BYTES_IN],
        words[_BYTES_OUT],
        errors,
    )


def packed(kind: str) -> bytes:
    """Return a kind's name as a slot has it."""
    return kind.encode()[: Kinds.NAME - 1].ljust(Kinds.NAME, b"\0")


def unpacked(name: memoryview) -> str:
    return bytes(name).rstrip(b"\0").decode(errors="replace")
