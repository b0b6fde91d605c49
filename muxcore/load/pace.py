"""The pure generator's schedule and bytes: when messages are due, how large, what is in them."""

from __future__ import annotations

import random

from muxcore.load.config import LoadConfig

PERIOD = 16_381  # prime, so that no power of two shifts the pattern onto itself
_STEP = 7_919  # prime to the period: neighbouring connections do not share a phase


class Pace:
    """What one connection sends, and when. Times are nanoseconds of ``time.monotonic_ns``."""

    __slots__ = ("_config", "_index", "_mix", "_random", "_started", "_turn", "due")

    def __init__(self, config: LoadConfig, index: int) -> None:
        self._config = config
        self._index = index
        self._mix = config.cumulative()
        self._random = random.Random(config.seed * 1_000_003 + index)
        self._started = self._turn = self.due = 0

    def start(self, now: int) -> None:
        """Begin a window's schedule."""
        self._started = self.due = now
        self._turn = 0
        self.advance()

    def advance(self) -> None:
        """Go on to the next message of the schedule."""
        config = self._config
        interval = 1e9 * config.connections / config.rate
        if config.poisson:
            self.due += round(self._random.expovariate(1.0) * interval)
            return
        phase = self._index / config.connections
        self.due = self._started + round((self._turn + phase) * interval)
        self._turn += 1

    def size(self) -> int:
        """Return the next message's size in bytes."""
        if self._config.request:
            return len(self._config.request)
        if len(self._mix) == 1:
            return self._mix[0][0]
        share = self._random.random()
        return next(size for size, upto in self._mix if share < upto)


class Pattern:
    """The bytes at any offset of any connection: invented, or a script again and again."""

    def __init__(self, seed: int, longest: int, script: bytes = b"") -> None:
        once = script or random.Random(seed).randbytes(PERIOD)
        self._period = len(once)
        self._step = 0 if script else _STEP
        self._bytes = memoryview(once * (longest // len(once) + 2))

    def at(self, index: int, offset: int, size: int) -> memoryview:
        """Return ``size`` bytes of connection ``index`` from ``offset`` on."""
        start = (offset + index * self._step) % self._period
        return self._bytes[start : start + size]


def difference(expected: memoryview, data: bytes) -> int:
    """Return where ``data`` is not what was expected; the end of that, if it only is too long."""
    pairs = enumerate(zip(expected, data, strict=False))
    return next((i for i, (want, got) in pairs if want != got), len(expected))
