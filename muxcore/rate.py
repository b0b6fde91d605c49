"""Bytes a second: a number that connections count against, and that may change while they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

MOST_RATES = 6  # of one connection: csrc/rate.h has as many

# Bytes: a receive of less is hardly worth its call, and a short message is not cut into pieces
_LEAST_BURST = 4096
_SHARE = 10  # a burst is worth a tenth of a second: one beat, to those who look at a meter
# A loop sleeps for whole milliseconds, and comes late at times: what a bucket would gain meanwhile
# has to fit in, or the rate is not reached
_LEAST_SHARE = 100
_MOST = 2**50  # bytes; a petabyte, and a double still holds each single byte


class Bucket(Protocol):
    """What an engine keeps of a rate."""

    def engine(self) -> Any:
        """Return the engine, or None where it is gone."""

    def change(self, bytes_per_second: float, burst: int) -> None:
        """Let the rate be another from now on; in the engine's thread."""


B = TypeVar("B", bound=Bucket)


class Rate:
    """So many bytes a second, as a token bucket: ``transport.limit(rate)``.

    All connections that count against a rate share it, evenly among those that have something to
    send. What they receive in any ``t`` seconds is at most ``bytes_per_second * t + burst``.

    It belongs to the first running server that uses it; once that has ended, another may. With
    workers each process has its own, of the whole rate.

    Args:
        bytes_per_second: 1 at the least.
        burst: bytes that may come at once, after a pause; a hundredth of a second's worth at the
            least, since a loop sleeps for whole milliseconds. None means a tenth of a second's, and
            4,096 at the least: a short message comes in one piece.

    Raises:
        TypeError: one is no number.
        ValueError: one cannot work.
    """

    __slots__ = ("__weakref__", "_bucket", "_burst", "_bytes_per_second")

    def __init__(self, bytes_per_second: float, burst: int | None = None) -> None:
        self._bytes_per_second, self._burst = _checked(bytes_per_second, burst)
        self._bucket: Any = None

    @property
    def bytes_per_second(self) -> float:
        return self._bytes_per_second

    @property
    def burst(self) -> int:
        return self._burst

    def __repr__(self) -> str:
        return f"Rate({self._bytes_per_second:g}, burst={self._burst})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Rate, (self._bytes_per_second, self._burst)

    def change(self, bytes_per_second: float, burst: int | None = None) -> None:
        """Let it be another from now on, also for connections that wait for it.

        In the engine's thread, where it is in use; arguments and errors as of the class.

        Raises:
            RuntimeError: in another thread.
        """
        new = _checked(bytes_per_second, burst)
        engine = None if self._bucket is None else self._bucket.engine()
        if engine is not None and not is_over(engine):
            engine.refuse_thread("Rate.change()")
            self._bucket.change(*new)
        self._bytes_per_second, self._burst = new


def bucket_of(rate: Rate, engine: Any, make: Callable[[Rate], B]) -> B:
    """Return what an engine keeps of a rate.

    Args:
        rate: it.
        engine: the engine.
        make: makes the bucket, at the first time.

    Raises:
        ValueError: it is in use by another server.
    """
    owner = None if rate._bucket is None else rate._bucket.engine()
    if owner is not engine:
        if owner is not None and not is_over(owner):
            raise ValueError(
                f"limit(): {rate!r} is another server's, which still runs: make one for each"
            )
        rate._bucket = make(rate)
    bucket: B = rate._bucket
    return bucket


def is_over(engine: Any) -> bool:
    """Whether nothing of an engine's is of use here any more: it has ended, or is a fork's copy."""
    return bool(engine.is_copy() or (engine.ending and engine.owner is None))


def _checked(bytes_per_second: Any, burst: Any) -> tuple[float, int]:
    """Return a rate and its burst, or say what is wrong with them."""
    if isinstance(bytes_per_second, bool) or not isinstance(bytes_per_second, int | float):
        raise TypeError(f"Rate: bytes_per_second must be a number, not {bytes_per_second!r}")
    if not 1 <= bytes_per_second <= _MOST:  # so a NaN is refused as well
        raise ValueError(
            f"Rate: bytes_per_second must be from 1 to 2**50, not {bytes_per_second!r}; "
            "pause_reading() is for none, and limit() without a rate for all"
        )
    if burst is None:
        burst = max(_LEAST_BURST, math.ceil(bytes_per_second / _SHARE))
    elif isinstance(burst, bool) or not isinstance(burst, int):
        raise TypeError(f"Rate: burst must be a whole number of bytes, not {burst!r}")
    least = math.ceil(bytes_per_second / _LEAST_SHARE)
    if not least <= burst <= _MOST:
        raise ValueError(
            f"Rate: burst must be from {least} (a hundredth of a second's worth) to 2**50 bytes, "
            f"not {burst}: a loop sleeps for whole milliseconds"
        )
    return float(bytes_per_second), burst
