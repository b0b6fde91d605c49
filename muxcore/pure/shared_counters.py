"""Counters that many processes share: a mapping made before the first fork.

Every child counts into a slot of its own, so that nothing is locked, and a child that is killed
leaves what it counted. The parent folds a slot into the totals when it reaps the child; a version
number, odd meanwhile, lets readers in other processes see that they must look again (a seqlock).
"""

from __future__ import annotations

import mmap
from collections import Counter

from muxcore.stats import Stats

_WORD = 8  # bytes; an aligned word is written in one piece
_VERSION, _OPEN, _TOTAL, _BYTES_IN, _BYTES_OUT, _USED, _PHASE, _TIMEOUT, _STOPPED = range(9)
_HEADER = 9
_OF_SLOT = 5  # words: bytes in, bytes out, outgoing connections, what it says to a drain, its end
_HEARD, _MAY_REST = 1, 2  # what a child says to a drain
_KINDS = 32  # kinds of error counted apart; later ones are counted as "other"
_NAME = 40  # bytes of a kind's name
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
        words = _HEADER + _OF_SLOT * slots + _KINDS
        self._map = mmap.mmap(-1, words * _WORD + _KINDS * _NAME + slots * _NAME)
        self._view = memoryview(self._map)
        self._words = self._view[: words * _WORD].cast("q")
        self._kinds = self._view[words * _WORD :][: _KINDS * _NAME]
        self._slot_errors = self._view[words * _WORD + _KINDS * _NAME :]
        self._free: list[int] = []  # given back; _USED are those that were in use at some time

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
        self._slot_errors[slot * _NAME :][:_NAME] = _packed(kind)

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
        return slot

    def give_back(self, slot: int, kind: str = "", *, or_else: str = "") -> None:
        """Fold a child's slot into the totals.

        Args:
            kind: how the child itself ended, where that was an error.
            or_else: the same, where what the child has noted itself says more.
        """
        at = _HEADER + _OF_SLOT * slot
        error = self._slot_errors[slot * _NAME :][:_NAME]
        kind = kind or _unpacked(error) or or_else
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
        self._free.append(slot)

    def count(self, kind: str) -> None:
        """Count an error by its kind."""
        packed = _packed(kind)
        for index in range(_KINDS):
            name = self._kinds[index * _NAME :][:_NAME]
            if index == _KINDS - 1:
                packed = _packed("other")
            if name[0] == 0:
                name[:] = packed
            if name == packed:
                self._words[_HEADER + _OF_SLOT * self._slots + index] += 1
                return

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
        for index in range(_KINDS):
            kind = _unpacked(self._kinds[index * _NAME :][:_NAME])
            if kind:
                stats.errors[kind] = self._words[_HEADER + _OF_SLOT * self._slots + index]
        return stats


def _packed(kind: str) -> bytes:
    return kind.encode()[: _NAME - 1].ljust(_NAME, b"\0")


def _unpacked(name: memoryview) -> str:
    return bytes(name).rstrip(b"\0").decode(errors="replace")
