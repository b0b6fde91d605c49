"""The compiled core: whether it is there, a loop of it, and what the loop has counted."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from muxcore.limits import Limits
from muxcore.parts import cells
from muxcore.parts.waker import Waker
from muxcore.stats import Stats

lib: Any = None
ffi: Any = None
missing: str | None = None
"""Why the core cannot be used, or None."""


def _pure_build() -> bool:
    """Return whether what is installed was built without the core: its wheel's tag says so."""
    try:
        wheel = distribution("muxcore").read_text("WHEEL") or ""
    except PackageNotFoundError:
        return False
    return "Tag: py3-none-any" in wheel


try:
    _core = importlib.import_module("muxcore.native._core")
    lib, ffi = _core.lib, _core.ffi
except ImportError as exc:
    missing = "this is a pure build (MUXCORE_BUILD=pure)" if _pure_build() else str(exc)

NS = 1_000_000_000

# s that a joined pair stays in its loop before it goes to a mover: one that brings a single message
# is over by then, and a move costs half of what such a connection does
STAY = 0.01

_UINT32_MOST = 2**32 - 1
_NS_MOST = 2**61  # 73 years: what is added to it still fits
_CHUNK_MOST = 2**30  # a receive takes an int's worth; nobody needs a larger one


def mark(size: int) -> int:
    """Clamp a water mark to C's 32 bits: 4 GiB are as good as none."""
    return min(size, _UINT32_MOST)


def _ns(seconds: float | None) -> int:
    """Return a time as C keeps it: at least 1 ns, where it is not 0 or None, which mean "none"."""
    return min(max(1, int(seconds * NS)), _NS_MOST) if seconds else 0


def new_counters() -> Any:
    """Return what a loop counts in; Python owns it, so that it outlives the loop."""
    return ffi.new("mux_stats *")


def counters_in(memory: Any, at: int) -> Any:
    """Return the counters at some byte of shared memory (:func:`memory_of`), which is to stay."""
    return ffi.cast("mux_stats *", memory + at)


def memory_of(cell: cells.Cell) -> Any:
    """Return the memory that a cell lies in, all of it."""
    return ffi.from_buffer(cell.memory)


def new_loop(limits: Limits, edge: bool, wake: int, counters: Any) -> Any:
    """Return a new loop.

    Args:
        limits: the caps it keeps.
        edge: whether its epoll set is edge-triggered.
        wake: a descriptor; when it becomes readable a poll returns.
        counters: see :func:`new_counters`.

    Raises:
        OSError: what failed, and why.
    """
    return _made(lib.mux_loop_new, _options(limits, edge, wake, counters))


def new_mover(limits: Limits, edge: bool, waker: Waker, counters: Any, giver: Waker) -> Any:
    """Return a new mover; arguments as of :func:`new_loop`.

    Args:
        waker: its own.
        giver: that of the loop that gives it pairs.

    Raises:
        OSError: what failed, and why.
    """
    options = _options(limits, edge, waker.fileno(), counters)
    return _made(lib.mux_mover_new, options, waker.writer_fileno(), giver.writer_fileno())


def _options(limits: Limits, edge: bool, wake: int, counters: Any) -> Any:
    return ffi.new(
        "mux_options *",
        {
            "connections": min(limits.connections, _UINT32_MOST // 2),
            "read_chunk": min(limits.read_chunk, _CHUNK_MOST),
            "high": mark(limits.write_high),
            "low": mark(limits.write_low),
            "idle": _ns(limits.idle_timeout),
            "close": _ns(limits.close_timeout),
            "linger": _ns(limits.linger_timeout),
            "half_close": _ns(limits.half_close_timeout),
            "together": limits.half_close_timeout == 0,
            "accept_pause": _ns(limits.accept_pause),
            "stay": _ns(STAY),
            "reads": mark(limits.reads_per_turn),
            "accepts": mark(limits.accepts_per_turn),
            "wake": wake,
            "edge": edge,
            "stats": counters,
        },
    )


def _made(make: Callable[..., Any], *args: Any) -> Any:
    """Return what C has made, or raise what it says has failed."""
    failed, error = ffi.new("const char **"), ffi.new("int *")
    made = make(*args, failed, error)
    if made == ffi.NULL:
        call = ffi.string(failed[0]).decode()
        raise OSError(error[0], f"the native core: {call}: {os.strerror(error[0])}")
    return made


def stats_of(counters: Any, errors: Counter[str], movers: Iterable[Any] = ()) -> Stats:
    """Return a snapshot.

    Args:
        counters: what C has counted.
        errors: those that Python has.
        movers: the counters of the loop's movers, who move bytes for it.
    """
    stats = cells.stats_of(memoryview(ffi.buffer(counters)).cast("Q"))
    stats.errors.update(errors)
    stats.bytes_in += sum(each.bytes_in for each in movers)
    stats.bytes_out += sum(each.bytes_out for each in movers)
    return stats
