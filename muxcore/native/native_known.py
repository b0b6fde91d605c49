"""What Python asks C of a connection: its peer, what has moved, what waits, and why it ended."""

from __future__ import annotations

import abc
import errno
import functools
import os
from threading import get_ident
from typing import Any

from muxcore.errors import CloseTimeout, HalfCloseTimeout, IdleTimeout, passed_on
from muxcore.native.core_loop import CoreLoop
from muxcore.native.native_socket import LentSocket, RawAddress
from muxcore.parts.known import ToItsEnd
from muxcore.parts.transport import ENDS_BY_RESET
from muxcore.parts.transport_socket import TransportSocket
from muxcore.protocol import AnyProtocol

IDLE, HALF_CLOSED, NOT_TAKEN = -1, -2, -3  # MUX_IDLE, MUX_HALF_CLOSED, MUX_NOT_TAKEN
PASSED_ON = 0x10000  # MUX_PASSED_ON
TICKS = 10_000  # a second: what C tells of the time of a first byte
_NAME_MOST = 110  # bytes of a socket address: struct sockaddr_un, the longest


@functools.lru_cache(256)  # a server has few of its own
def _own_name(raw: bytes) -> Any:
    return RawAddress(raw).decoded()


class NativeKnown(ToItsEnd):
    """A connection in a slot of the C core.

    Attributes:
        _protocol: hears of its end; None from then on.
    """

    __slots__ = ()

    _engine: CoreLoop
    _slot: int
    _generation: int
    _protocol: AnyProtocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            known = self._peername
            if isinstance(known, RawAddress):
                known = self._peername = known.decoded()
            if isinstance(known, tuple):
                return known
        return super().get_extra_info(name, default)

    def get_protocol(self) -> AnyProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        engine = self._engine
        size = engine.lib.mux_queued(engine.loop, self._slot, self._generation)
        if size == -errno.EPERM:
            engine.refuse_thread("get_write_buffer_size()")
        return max(0, int(size))

    def fileno(self) -> int:
        """Return the connection's descriptor, or -1 where it has none (any more)."""
        engine = self._engine
        if self._over():
            return -1
        return max(-1, int(engine.lib.mux_handle(engine.loop, self._slot, self._generation)))

    def _waits_for_rate(self) -> bool:
        engine = self._engine
        return bool(engine.lib.mux_waits(engine.loop, self._slot, self._generation) == 1)

    def _counted_in_c(self) -> tuple[int, int]:
        engine = self._engine
        in_out = engine.ffi.new("uint64_t[2]")
        engine.lib.mux_bytes(engine.loop, self._slot, self._generation, in_out)
        return in_out[0], in_out[1]

    def _sockname(self, default: Any) -> Any:
        engine = self._engine
        if self._over():
            return default
        room = engine.ffi.new("char[]", _NAME_MOST)
        size = engine.lib.mux_name(engine.loop, self._slot, self._generation, room, _NAME_MOST)
        return default if size < 0 else _own_name(engine.ffi.unpack(room, min(size, _NAME_MOST)))

    def _socket(self) -> TransportSocket | None:
        return LentSocket(self.fileno(), self._over)

    @abc.abstractmethod
    def _over(self) -> bool:
        """Whether C has said that it ended."""

    # -- its end

    @abc.abstractmethod
    def lost(
        self, error: int, received: int = 0, sent: int = 0, first: int = 0, answered: int = 0
    ) -> None: ...

    def _close_in_c(self) -> None:
        self._engine.lib.mux_close(self._engine.loop, self._slot, self._generation)

    def _abort_in_c(self, exc: BaseException | None) -> None:
        reset = isinstance(exc, ENDS_BY_RESET)
        self._engine.lib.mux_abort(self._engine.loop, self._slot, self._generation, reset)

    def _ended(self, reason: BaseException | None, error: int) -> BaseException | None:
        """Return what ``connection_lost`` is told, and count it.

        Args:
            reason: why Python ended it.
            error: why C ended it: an errno, MUX_IDLE and the like, or 0.
        """
        exc = self._why(error) if reason is None else reason
        if exc is not None:
            self._engine.errors[type(exc).__name__] += 1
        return exc

    def _release(self) -> None:
        self._engine.lib.mux_release(self._engine.loop, self._slot, self._generation)

    def _why(self, error: int) -> BaseException | None:
        """Return what C's word for an end means."""
        limits = self._engine.limits
        if not error:
            return None
        if error == IDLE:
            return IdleTimeout(limits.idle_timeout or 0.0)
        if error == HALF_CLOSED:
            return HalfCloseTimeout(limits.half_close_timeout or 0.0)
        if error == NOT_TAKEN:
            return CloseTimeout(limits.close_timeout or 0.0)
        number = error & ~PASSED_ON
        exc = OSError(number, os.strerror(number))
        return exc if number == error else passed_on(exc)

    def _check_thread(self, what: str) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread(what)
