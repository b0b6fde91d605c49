"""A connection that C opens: in the engine's table it stands where its transport will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muxcore.native.core_loop import CoreLoop
from muxcore.native.native_socket import Borrowed, RawAddress
from muxcore.parts.sockets import watch_peers
from muxcore.protocol import Service


class Attempt:
    """One connect(2) on its way.

    Args:
        engine: the native engine.
        family: of the address.
        sockaddr: as Python's ``socket`` writes it.
        done: called later, once, with this attempt and an errno, 0 if it is connected; not after
            ``cancel()``.
    """

    __slots__ = ("_done", "_engine", "generation", "peername", "slot")

    def __init__(
        self, engine: CoreLoop, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> None:
        self._engine = engine
        self._done: Callable[[Attempt, int], object] | None = done
        self.peername = sockaddr
        raw = RawAddress.encoded(family, sockaddr)
        generation = engine.ffi.new("uint32_t *")
        self.slot = int(engine.lib.mux_connect(engine.loop, raw, len(raw), generation))
        self.generation = int(generation[0])
        if self.slot < 0:
            engine.call_soon(self._told, -self.slot)
        else:
            engine.set_transport(self.slot, self)

    def open(self, service: Service) -> None:
        """Serve it: it is connected."""
        limits = self._engine.limits
        if limits.keepalive is not None or limits.user_timeout is not None:
            lib, loop = self._engine.lib, self._engine.loop
            fd = int(lib.mux_handle(loop, self.slot, self.generation))
            if fd >= 0:  # C has it still
                watch_peers(Borrowed(fileno=fd), limits)
        self._engine.open_connected(self.slot, self.generation, service, self.peername)

    def cancel(self) -> None:
        """Close it; nobody is told."""
        self._done = None
        if self.slot >= 0:
            engine = self._engine
            engine.lib.mux_abort(engine.loop, self.slot, self.generation, False)

    # -- for the engine

    def on_connected(self, error: int) -> None:
        """It is connected, or has failed."""
        if error:
            self.lost(error)
            self._engine.set_transport(self.slot, None)
        self._told(error)

    def lost(self, error: int, received: int = 0, sent: int = 0, first: int = 0) -> None:
        """C is done with it: after a failure, or after ``cancel()``."""
        engine = self._engine
        engine.lib.mux_release(engine.loop, self.slot, self.generation)

    def _told(self, error: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, error)
