"""What is left of a transport once C has its connection, and its peer, to their end.

It is asked for what it has moved, and told to end; nothing else comes but the rest of a batch that
was under way. A pair that is idle has this in the engine's table: 128 bytes less than the whole.
"""

from __future__ import annotations

from typing import Any

from muxcore.native.native_known import NativeKnown
from muxcore.parts import dispatch
from muxcore.protocol import AnyProtocol


class NativeJoined(NativeKnown):
    """A connection in a slot of the C core, under a relay whose other side Python has forgotten.

    Args:
        known: the transport, or the attempt, which nobody uses any more.
    """

    __slots__ = ("_end", "_generation", "_protocol", "_slot")

    _hold, _hears = 0, False  # as the engine asks of what it has data for

    def __init__(self, known: Any) -> None:
        self._engine = known._engine
        self._peername = known._peername
        self._slot = known._slot
        self._generation = known._generation
        self._protocol: AnyProtocol = known._protocol
        # why Python ends it; then what C says of its life: bytes in, bytes out, it ended first
        self._end: BaseException | bool | tuple[int, int, int] | None = None

    def ended_first(self) -> bool:
        return isinstance(self._end, tuple) and bool(self._end[2])

    def _counted(self) -> tuple[int, int]:
        return self._end[:2] if isinstance(self._end, tuple) else self._counted_in_c()

    def _over(self) -> bool:
        return isinstance(self._end, tuple)

    def has_ended(self) -> bool:
        return self._end is not None

    def tell_draining(self) -> None:
        """It is under a verb: nobody hears."""

    # -- the rest of a batch

    def on_data(self, data: bytes) -> None:
        engine = self._engine
        engine.lib.mux_relay_more(engine.loop, self._slot, self._generation, data, len(data))

    def on_eof(self) -> None:
        self.on_data(b"")

    def on_drained(self, size: int) -> None:
        """C minds it now."""

    def sent(self, queued: int) -> None:
        """C minds it now."""

    # -- the end

    def close(self) -> None:
        self._check_thread("close()")
        self._close_in_c()

    def abort(self) -> None:
        self._check_thread("abort()")
        self._fail(None)

    def _fail(self, exc: BaseException | None) -> None:
        if not self._over():
            self._end = True if exc is None else exc
            self._abort_in_c(exc)

    def lost(
        self, error: int, received: int = 0, sent: int = 0, first: int = 0, answered: int = 0
    ) -> None:
        """Deliver ``connection_lost``: see ``NativeTransport.lost``."""
        reason, self._end = self._end, (received, sent, first)
        exc = self._ended(reason if isinstance(reason, BaseException) else None, error)
        try:
            dispatch.lost(self, self._protocol, exc)
        finally:
            self._protocol = None  # it may refer to this object: no cycle is left
            self._release()
