"""Small writes are gathered, and cross into C together: with the next poll, or by ``flush()``.

A crossing costs as much as all that Python does for a message. So ``NativeTransport.write`` puts
small writes into ``parts``, in the form of csrc/gather.h, and the engine hands them over when it
polls. What has to know the state of a send queue lets them cross first. Nobody waits for a slow
callback: the clock is looked at after the first write of a batch, after two more, and so on up to
every eighth; and after each one where callbacks take long.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from muxcore.native.core_loop import CoreLoop

SMALL = 1024  # bytes; a larger write crosses by itself
SAFE = 64 * 1024  # bytes: a connection's share, the default high-water mark; so nobody has to pause
MOST, MOST_BYTES = 4000, 4 * SAFE  # gathered of all; C takes MUX_WRITES
LOOK_EVERY = 8  # writes, at most, the clock and what there is are looked at
QUICK = 50e-6  # s a callback; where they take longer, each write crosses at once

_PARTS = 3  # of a write
FEW = 16 * _PARTS  # parts: 1 us to look through
SIZES = [size.to_bytes(4, sys.byteorder) for size in range(SMALL + 1)]


class Gathering(CoreLoop):
    """What of an engine gathers; ``NativeEpollEngine`` is the rest."""

    _transports: list[Any]

    def _init_gathering(self) -> None:
        self.parts: list[bytes] = []  # of each write: slot, size, bytes
        self._step = 1  # writes until the next look
        self.look_at = _PARTS * self._step  # so many parts: at the clock
        self._looked = 0.0  # at the clock; 0: not since the last crossing
        self._size = self._seen = 0  # bytes of the first so many parts
        self._shares: dict[bytes, int] | None = None  # the same by connection, where all is much
        self._left = self.lib.mux_loop_left(self.loop)  # of those with a queue: slot, bytes

    def _watch_callbacks(self) -> None:
        """Look at the clock from the first write of these callbacks on, and then ever less."""
        self._looked = time.monotonic()
        self._step = 1
        self.look_at = _PARTS

    def look(self) -> None:
        """Let cross what is much, or was written by a slow callback."""
        now, before = time.monotonic(), self._looked
        is_slow = before > 0 and now - before > self._step * QUICK
        self._step = 1 if is_slow else min(2 * self._step, LOOK_EVERY)
        if is_slow or self._is_much():
            self.flush()
        self._looked = now
        self.look_at = len(self.parts) + _PARTS * self._step

    def _is_much(self) -> bool:
        """Whether all, or some connection's share, may pass its bound before the next look."""
        parts, seen = self.parts, self._seen
        if len(parts) <= _PARTS * (SAFE // SMALL):
            return False
        self._size += sum(map(len, parts[seen + 2 :: _PARTS]))
        self._seen = len(parts)
        if self._size <= SAFE - LOOK_EVERY * SMALL:
            return False
        if self._shares is None:
            self._shares, seen = {}, 0
        for head, data in zip(parts[seen::_PARTS], parts[seen + 2 :: _PARTS], strict=True):
            self._shares[head] = self._shares.get(head, 0) + len(data)
        share = max(self._shares.values())
        spare = LOOK_EVERY * SMALL
        return (
            share > SAFE - spare
            or self._size > MOST_BYTES - spare
            or self._seen > _PARTS * (MOST - LOOK_EVERY)
        )

    def _joined(self) -> bytes:
        """Return what was gathered, which is to cross now, in the form of csrc/gather.h."""
        data = b"".join(self.parts)
        self.parts.clear()
        if self._looked:
            self.look_at, self._looked, self._shares = _PARTS * self._step, 0.0, None
            self._size = self._seen = 0
        return data

    def flush(self) -> None:
        """Let what was gathered cross into C, which sends it."""
        if self.parts:
            data = self._joined()
            count = self.lib.mux_send_batch(self.loop, data, len(data))
            if count < 0:
                raise OSError(-count, f"gathered writes: {os.strerror(-count)}")
            if count:
                self._tell_queued(count)

    def _tell_queued(self, count: int) -> None:
        """Let so many connections hear that their writes are queued."""
        left = self.ffi.unpack(self._left, 2 * count)
        for slot, size in zip(left[::2], left[1::2], strict=True):
            self._transports[slot].sent(size)
