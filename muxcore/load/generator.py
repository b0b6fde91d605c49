"""What a load generator promises, and which one there is."""

from __future__ import annotations

import enum
import importlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

from muxcore import address as addresses
from muxcore.errors import MuxcoreError
from muxcore.load.config import LoadConfig
from muxcore.load.result import LoadResult

_SLICE = 0.1  # seconds between looks at the clock of the caller: progress, Ctrl-C


class LoadError(MuxcoreError, RuntimeError):
    """A load could not be run; the message says which part failed and what to do."""


class Phase(enum.IntEnum):
    """Where a window stands; the numbers are those of csrc/load/load.h."""

    IDLE = 0
    CONNECTING = 1
    WARMING = 2
    MEASURING = 3
    DRAINING = 4


class Generator(Protocol):
    """One client process's load. Connections stay open from window to window."""

    kind: str

    def begin(self, warmup: float, seconds: float) -> None:
        """Start a window; connects first where that is still to do."""

    def run(self, seconds: float) -> Phase:
        """Work for so long at most; returns early whenever the phase changes."""

    def stop(self) -> None:
        """End the window early, with a result for the time it lasted."""

    def result(self) -> LoadResult:
        """Return what was found up to now."""

    def close(self) -> None:
        """Close every connection."""


def native_reason() -> str:
    """Return why the native generator cannot be used here; empty where it can."""
    try:
        core: Any = importlib.import_module("muxcore.native._core")
    except ImportError as exc:
        return f"the C core is not built: {exc}"
    if not hasattr(core.lib, "mux_load_new"):
        return "the C core was built without its load generator: build it again"
    return ""


def generator(config: LoadConfig, kind: str = "auto") -> Generator:
    """Return a generator for this load.

    Args:
        config: the load; its address must be numeric.
        kind: ``native``, ``pure``, or ``auto``: native where it is built.

    Raises:
        LoadError: ``native`` was asked for and is not there, or it could not be set up.
    """
    if kind not in ("auto", "native", "pure"):
        raise LoadError(f"no generator {kind!r}: choose native, pure or auto")
    reason = native_reason() if kind != "pure" else "pure was asked for"
    if kind == "native" and reason:
        raise LoadError(f"the native generator is not available: {reason}")
    if reason:
        from muxcore.load.pure import PureGenerator

        return PureGenerator(config)
    from muxcore.load.native import NativeGenerator

    return NativeGenerator(config)


def numeric(text: str | int) -> addresses.Address:
    """Return a server's address with its name resolved.

    Raises:
        LoadError: the name has no address.
    """
    target = addresses.parse(text)
    if target.path:
        return target
    try:
        family, sockaddr = addresses.resolve(target)[0]
    except OSError as exc:
        raise LoadError(f"no address for {target.host!r}: {exc}") from exc
    host = sockaddr[0]
    if family == socket.AF_INET6 and sockaddr[3] and "%" not in host:
        host = f"{host}%{sockaddr[3]}"
    return addresses.Address(host, sockaddr[1])


def window(
    source: Generator,
    warmup: float,
    seconds: float,
    *,
    at_phase: Callable[[Phase], None] | None = None,
    progress: Callable[[Phase, LoadResult], None] | None = None,
    slice_seconds: float = _SLICE,
) -> LoadResult:
    """Run one window to its end and return its result.

    Args:
        source: the generator.
        warmup: seconds before counting begins.
        seconds: seconds that count.
        at_phase: called at each change of phase, while nothing is sent: the place to read clocks.
        progress: called after each slice.
        slice_seconds: how often.
    """
    source.begin(warmup, seconds)
    phase: Phase | None = None
    while True:
        now = source.run(slice_seconds)
        if now != phase:
            phase = now
            if at_phase:
                at_phase(now)
        if now is Phase.IDLE:
            return source.result()
        if progress:
            progress(now, source.result())
