"""What connections and attempts of the C core see of their engine."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol

from muxcore.parts.turning import TurningLoop
from muxcore.protocol import Service


class InSlot(Protocol):
    """What stands in the engine's table for a slot of C: a transport, or an attempt."""

    def lost(
        self, error: int, received: int = 0, sent: int = 0, first: int = 0, answered: int = 0
    ) -> None:
        """C is done with the slot.

        Args:
            error: why: an errno, MUX_IDLE and the like, or 0.
            received, sent: bytes of the connection's life.
            first: not 0: its peer ended a relay before the other side did.
            answered: when a relay's other side sent its first byte, as C says it; 0: never.
        """


class CoreLoop(TurningLoop):
    """A loop of the C core.

    Attributes:
        lib, ffi: the compiled core.
        loop: the ``mux_loop *``.
        send: ``lib.mux_send``.
        parts: of each gathered write slot, size and bytes.
        look_at: at so many parts the clock is looked at.
    """

    lib: Any
    ffi: Any
    loop: Any
    send: Callable[..., int]
    parts: list[bytes]
    look_at: int

    @abc.abstractmethod
    def begin_movers(self) -> None:
        """Start the movers that are wanted."""

    @abc.abstractmethod
    def look(self) -> None:
        """Let cross what is much, or was written by a slow callback."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Let what was gathered cross into C, which sends it."""

    @abc.abstractmethod
    def open_connected(self, slot: int, generation: int, service: Service, peername: Any) -> None:
        """Serve a connection that C has opened for an attempt."""

    @abc.abstractmethod
    def set_transport(self, slot: int, transport: InSlot | None) -> None:
        """Have a slot's events go to ``transport``, or to nobody."""
