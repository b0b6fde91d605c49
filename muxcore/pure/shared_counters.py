"""Counters that many processes share: a mapping made before the first fork.

Every child counts into a slot of its own, so that nothing is locked, and a child that is killed
leaves what it counted. The parent folds a slot into the totals when it reaps the child; a version
number, odd meanwhile, lets readers in other processes see that they must look again (a seqlock).
"""

from __future__ import annotations

import mmap
from collections import Counter

from muxcore.parts.cells import WORD, Kinds, packed, unpacked
from muxcore.stats import Stats

_VERSION, _OPEN, _TOTAL, _BYTES_IN, _BYTES_OUT, _USED, _PHASE, _TIMEOUT, _STOPPED = range(9)
_HEADER = 9
_OF_SLOT = 5  # words: bytes in, bytes out, outgoing connections, what it says to a drain, its end
_HEARD, _MAY_REST = 1, 2  # what a child says to a drain
_NAME = Kinds.NAME
_PER_SECOND = 1_000_000  # a time is kept in microseconds
SERVING, DRAINING, STOPPING = range(3)
_READ_TRIES = 1000  # a writer needs microseconds; this many looks are milliseconds


class SharedCounters:
    """The counters of one process engine.

    Args:
        slots: children at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        size = (_HEADER + _OF_SLOT * slots) * WORD
        self._map = mmap.mmap(-1, size + Kinds.SIZE + slots * _NAME)
        self._view = memoryview(self._map)
        self._words = self._view[:size].cast("q")
        self._kinds = Kinds(self._view[size:][: Kinds.SIZE])
        self._slot_errors = self._view[size + Kinds.SIZE :]
        self._cell = Stats()  # what else counts the clients, and what they leave
        self._free: list[int] = []  # given back; _USED are those that were in use at some time

    def count_in(self, cell: Stats) -> None:
        """Count in ``cell`` as well: clients as they come and go, their bytes when they go."""
        self._cell = cell

    # -- the child's side

    def add(self, slot: int, received: int, sent: int) -> None:
        at = _HEADER + _OF_SLOT * slot
        self._words[at] += received
        self._words[at + 1] += sent

    def connected(self, slot: int, change: int) -> None:
        """Count an outgoing connection that has come (1) or gone (-1)."""
        self._words[_HEADER + _OF_SLOT * slot + 2] += change

    def heard(self, slot: int, may_rest: bool) -> None:
        """Note that the slot's child has heard of a drain.

        Args:
            slot: it.
            may_rest: its client is never idle: so its protocol answered to ``draining()``.
        """
        self._words[_HEADER + _OF_SLOT * slot + 3] = _MAY_REST if may_rest else _HEARD

    def is_told(self, slot: int) -> bool:
        """Whether the parent has told the slot's child to end."""
        return bool(self._words[_HEADER + _OF_SLOT * slot + 4]) or self.phase == STOPPING

    def failed(self, slot: int, kind: str) -> None:
        """Note what ended the slot's connection."""
        self._slot_errors[slot * _NAME :][:_NAME] = packed(kind)

    # -- the parent's side

    def room(self) -> bool:
        """Whether a slot is free for another child."""
        return bool(self._free) or self._words[_USED] < self._slots

    def take(self) -> int:
        """Return a free slot for a new child."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._words[_USED]
            self._words[_USED] += 1
        self._words[_OPEN] += 1
        self._words[_TOTAL] += 1
        self._cell.open += 1
        self._cell.total += 1
        return slot

    def give_back(self, slot: int, kind: str = "", *, or_else: str = "") -> None:
        """Fold a child's slot into the totals.

        Args:
            kind: how the child itself ended, where that was an error.
            or_else: the same, where what the child has noted itself says more.
        """
        at = _HEADER + _OF_SLOT * slot
        error = self._slot_errors[slot * _NAME :][:_NAME]
        kind = kind or unpacked(error) or or_else
        self._cell.bytes_in += self._words[at]
        self._cell.bytes_out += self._words[at + 1]
        self._words[_VERSION] += 1
        self._words[_BYTES_IN] += self._words[at]
        self._words[_BYTES_OUT] += self._words[at + 1]
        for word in range(_OF_SLOT):
            self._words[at + word] = 0
        self._words[_VERSION] += 1
        error[:] = bytes(_NAME)
        if kind:
            self.count(kind)
        self._words[_OPEN] -= 1
        self._cell.open -= 1
        self._free.append(slot)

    def count(self, kind: str) -> None:
        """Count an error by its kind."""
        self._kinds.count(kind)
        self._cell.errors[kind] += 1

    def tell(self, slot: int) -> None:
        """Let the slot's child know that a SIGTERM which is about to come is its parent's."""
        self._words[_HEADER + _OF_SLOT * slot + 4] = 1

    def moved(self, slot: int) -> int:
        """Return the bytes that a child has moved.

        -1: it may rest, or has not heard of a drain: it is at a callback, or sends to who does not
        read.
        """
        at = _HEADER + _OF_SLOT * slot
        return self._words[at] + self._words[at + 1] if self._words[at + 3] == _HEARD else -1

    # -- any process

    @property
    def phase(self) -> int:
        """What all are at: SERVING, DRAINING or STOPPING."""
        return self._words[_PHASE]

    @phase.setter
    def phase(self, phase: int) -> None:
        self._words[_PHASE] = phase

    @property
    def timeout(self) -> float | None:
        """Seconds that clients have in a drain, which whoever asked for it has said, or None."""
        word = self._words[_TIMEOUT]
        return (word - 1) / _PER_SECOND if word else None

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._words[_TIMEOUT] = 0 if timeout is None else 1 + int(timeout * _PER_SECOND)

    @property
    def stopped(self) -> int:
        """How many clients a drain has ended."""
        return self._words[_STOPPED]

    @stopped.setter
    def stopped(self, stopped: int) -> None:
        self._words[_STOPPED] = stopped

    def snapshot(self) -> Stats:
        """Return the counters as they are now."""
        stats = Stats(self._words[_OPEN], self._words[_TOTAL], errors=Counter())
        for _ in range(_READ_TRIES):
            version = self._words[_VERSION]
            stats.bytes_in, stats.bytes_out = self._words[_BYTES_IN], self._words[_BYTES_OUT]
            counted = self._words[_HEADER : _HEADER + _OF_SLOT * self._words[_USED]].tolist()
            if version % 2 == 0 and version == self._words[_VERSION]:
                break
        stats.bytes_in += sum(counted[::_OF_SLOT])
        stats.bytes_out += sum(counted[1::_OF_SLOT])
        stats.outgoing = sum(counted[2::_OF_SLOT])
        stats.errors.update(dict(self._kinds.items()))
        return stats
