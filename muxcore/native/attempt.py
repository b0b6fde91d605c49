"""A connection that C opens: in the engine's table it stands where its transport will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muxcore.native.core_loop import CoreLoop
from muxcore.native.native_joined import NativeJoined
from muxcore.native.native_socket import Borrowed, RawAddress
from muxcore.parts import dispatch
from muxcore.parts.sockets import watch_peers
from muxcore.protocol import AnyProtocol, Service


class Attempt:
    """One connect(2) on its way.

    Args:
        engine: the native engine.
        family: of the address.
        sockaddr: as Python's ``socket`` writes it.
        done: called later, once, with this attempt and an errno, 0 if it is connected; not after
            ``cancel()``.
    """

    __slots__ = ("_done", "_engine", "_generation", "_peername", "_protocol", "_slot")

    def __init__(
        self, engine: CoreLoop, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> None:
        self._engine = engine
        self._done: Callable[[Attempt, int], object] | None = done
        self._peername = sockaddr
        self._protocol: AnyProtocol = None
        raw = RawAddress.encoded(family, sockaddr)
        generation = engine.ffi.new("uint32_t *")
        self._slot = int(engine.lib.mux_connect(engine.loop, raw, len(raw), generation))
        self._generation = int(generation[0])
        if self._slot < 0:
            engine.call_soon(self._told, -self._slot)
        else:
            engine.set_transport(self._slot, self)

    def open(self, service: Service) -> None:
        """Serve it: it is connected."""
        self.watch_peer()
        self._engine.open_connected(self._slot, self._generation, service, self._peername)

    def watch_peer(self) -> None:
        """Have the kernel notice a peer that is gone, where that is wanted."""
        limits = self._engine.limits
        if limits.keepalive is not None or limits.user_timeout is not None:
            lib, loop = self._engine.lib, self._engine.loop
            fd = int(lib.mux_handle(loop, self._slot, self._generation))
            if fd >= 0:  # C has it still
                watch_peers(Borrowed(fileno=fd), limits)

    def cancel(self) -> None:
        """Close it; nobody is told."""
        self._done = None
        if self._slot >= 0:
            self.abort()

    # -- for a relay, of which it is to be the other side: see ``Coming``

    def name_in_c(self) -> tuple[int, int]:
        """Return its slot and generation."""
        return self._slot, self._generation

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peername if name == "peername" else default

    def set_protocol(self, protocol: AnyProtocol) -> None:
        """Let another object hear of its end, should it not be joined."""
        self._protocol = protocol

    def abort(self) -> None:
        self._engine.lib.mux_abort(self._engine.loop, *self.name_in_c(), False)

    def _fail(self, exc: BaseException | None) -> None:
        self.abort()

    def forget(self) -> None:
        """Leave it to C: it is joined."""
        engine = self._engine
        if engine.lib.mux_forget(engine.loop, *self.name_in_c()) == 0:
            engine.set_transport(self._slot, None)
        else:  # this batch has more of it
            engine.set_transport(self._slot, NativeJoined(self))

    # -- for the engine

    def on_connected(self, error: int) -> None:
        """It is connected, or has failed."""
        if error:
            self.lost(error)
            self._engine.set_transport(self._slot, None)
        self._told(error)

    def lost(
        self, error: int, received: int = 0, sent: int = 0, first: int = 0, answered: int = 0
    ) -> None:
        """C is done with it: after a failure, or after ``cancel()``."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            dispatch.call(self, protocol, "connection_lost", None)
        self._engine.lib.mux_release(self._engine.loop, *self.name_in_c())

    def _told(self, error: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, error)
