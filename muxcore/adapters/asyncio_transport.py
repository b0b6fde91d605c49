"""One connection of the adapters: asyncio's transport, wrapped just enough.

Two objects a connection. The *bridge* is what asyncio's transport talks to; it passes each callback
on to the user's protocol, through the one place that handles errors. The *transport* is what the
user's protocol talks to; it passes each call on to asyncio's. They differ from nothing in between
only where ``protocol.py`` says that muxcore is stricter, and by the verbs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any

from muxcore import address as addresses
from muxcore import dispatch
from muxcore.adapters.asyncio_bridges import RelayBridge, VerbBridge, bridge_for
from muxcore.address import Address
from muxcore.errors import (
    BufferLimitExceeded,
    HalfCloseTimeout,
    IdleTimeout,
    MuxcoreError,
    passed_on,
)
from muxcore.joining import Joining
from muxcore.protocol import Bytes, Verb
from muxcore.transport import RESET

_IDLE_LOOKS = 4  # looks at the counters in the length of one idle deadline


class AsyncioTransport:
    """What the user's protocol holds: asyncio's transport plus the verbs.

    Args:
        engine: the adapter.
        protocol: what the service returned.
        peername: the peer's socket address.
        verb: the service's, if it declares one.
    """

    def __init__(self, engine: Any, protocol: Any, peername: Any, verb: Verb | None) -> None:
        self._engine = engine
        self._protocol = protocol
        self._peername = peername
        self._inner: Any = None  # asyncio's transport, once there is one
        self._declared = verb
        self._verb: Verb | None = None
        self._peer: Any = None  # under relay(): the other side, or what brings it
        self._reason: BaseException | None = None  # for connection_lost: why we aborted
        self._lost = False
        self._eof_written = self._eof_heard = False
        self._user_paused = self._protected = False
        self._early, self._early_eof = b"", False  # received although paused: see _arrived
        self._bytes_in = self._written = 0
        self._unsent: int | None = None  # of the write buffer that an abort dropped
        self._moved: tuple[tuple[int, ...], float] = ((), 0.0)  # what was counted, and when
        self._idle_timer: asyncio.TimerHandle | None = None
        self._half_timer: asyncio.TimerHandle | None = None
        self.bridge: asyncio.BaseProtocol = bridge_for(self, protocol)

    @property
    def server(self) -> Any:
        return self._engine.server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peername
        if name == "engine":
            return self._engine.name
        if name == "bytes":
            return self.counted()
        if name in ("sockname", "socket"):
            return self._inner.get_extra_info(name, default)
        return default

    def counted(self) -> tuple[int, int]:
        """Return (bytes received, bytes sent)."""
        unsent = self._unsent
        if unsent is None:
            unsent = 0 if self._inner is None else self._inner.get_write_buffer_size()
        return self._bytes_in, self._written - unsent

    # -- passed on to asyncio's transport

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        if self._verb is None:
            self.bridge = bridge_for(self, protocol)
            self._inner.set_protocol(self.bridge)

    def is_reading(self) -> bool:
        return not (self._user_paused or self.is_closing())

    def pause_reading(self) -> None:
        if self._verb is None and not self.is_closing():
            self._user_paused = True
            self._inner.pause_reading()

    def resume_reading(self) -> None:
        if self._verb is None and not self.is_closing():
            self._user_paused = False
            self._read_if_allowed()

    def write(self, data: Bytes) -> None:
        if self._verb is not None:
            raise RuntimeError(
                f"write() after {self._verb.value}(): the engine moves the bytes now"
            )
        self._write(data)

    def writelines(self, lines: Iterable[Bytes]) -> None:
        self.write(b"".join(lines))

    def write_eof(self) -> None:
        if self._verb is not None:
            raise RuntimeError(
                f"write_eof() after {self._verb.value}(): the engine moves the bytes now"
            )
        if not self.is_closing():
            self._eof_written = True
            self._inner.write_eof()

    def can_write_eof(self) -> bool:
        return bool(self._inner.can_write_eof())

    def get_write_buffer_size(self) -> int:
        return 0 if self._inner is None else self._inner.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        low, high = self._inner.get_write_buffer_limits()
        return low, high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None and low is None:
            high, low = self._engine.limits.write_high, self._engine.limits.write_low
        self._inner.set_write_buffer_limits(high=high, low=low)

    def is_closing(self) -> bool:
        return self._lost or self._inner is None or self._inner.is_closing()

    def close(self) -> None:
        if self._inner is not None and not self.is_closing():
            self._inner.close()
            if self._peer is not None:
                self._peer.close()

    def abort(self) -> None:
        peer = self._peer
        self._fail(None)
        if peer is not None:
            peer._fail(None)

    def _cut(self) -> None:
        if self._inner is not None and not self._lost:
            if self._unsent is None:
                self._unsent = self._inner.get_write_buffer_size()
            self._inner.abort()

    # -- verbs

    def echo(self) -> None:
        self._begin(Verb.ECHO)

    def discard(self) -> None:
        self._begin(Verb.DISCARD)

    def relay(
        self, peer: Any, *, first: Bytes = b"", back: Bytes = b"", timeout: float | None = None
    ) -> None:
        self._check(Verb.RELAY, "the connection")
        if isinstance(peer, str | int | Address):
            joining = Joining(self, addresses.parse(peer), bytes(first), bytes(back), timeout)
            self._verb, self._peer = Verb.RELAY, joining
            self._user_paused = True
            self._inner.pause_reading()
            self.bridge = RelayBridge(self)  # uvloop may tell of an EOF all the same
            self._inner.set_protocol(self.bridge)
            return
        if not isinstance(peer, AsyncioTransport):
            raise TypeError(f"relay() needs a transport or an address, not {peer!r}")
        if peer is self or peer._engine is not self._engine:
            which = "the connection itself" if peer is self else "a connection of another server"
            raise ValueError(f"relay(): the peer is {which}")
        peer._check(Verb.RELAY, "the peer")
        self._join(peer, first, back)

    def _check(self, verb: Verb, who: str) -> None:
        if self.is_closing():
            raise ValueError(f"{verb.value}(): {who} is closing")
        if self._verb is not None:
            raise ValueError(f"{verb.value}(): {who} is under {self._verb.value}() already")
        if self._eof_written:
            raise ValueError(f"{verb.value}(): {who} has sent EOF already")

    def _begin(self, verb: Verb) -> None:
        self._check(verb, "the connection")
        self._verb = verb
        self._user_paused = False
        self.bridge = VerbBridge(self)
        self._inner.set_protocol(self.bridge)
        if self.get_write_buffer_size() > self.get_write_buffer_limits()[1]:
            self._protect()
        self._read_if_allowed()
        if self._eof_heard:  # before the verb: answer it now
            self.close()

    # -- a relay: asyncio's transports flush before they send EOF or close

    def _join(self, peer: Any, first: Bytes, back: Bytes) -> None:
        """Let every further byte of either go to the other, after ``first`` and ``back``."""
        self._peer, peer._peer = peer, self
        for side, other, head in ((peer, self, first), (self, peer, back)):
            side._verb = Verb.RELAY
            side._user_paused = side._protected = False
            side.bridge = RelayBridge(side)
            side._inner.set_protocol(side.bridge)
            early, other._early = other._early, b""
            if head or early:
                side._write(bytes(head) + early)
        for side, other in ((self, peer), (peer, self)):
            if other.get_write_buffer_size() > other.get_write_buffer_limits()[1]:
                side._protect()
            else:
                side._read_if_allowed()
            if side._eof_heard:  # before the join: pass it on now
                side._pass_on_eof()

    def _hold_peer(self, on: bool) -> None:
        """What waits to be sent here stops the other side from reading, or no longer does."""
        if isinstance(self._peer, AsyncioTransport):
            if on:
                self._peer._protect()
            else:
                self._peer._unprotect()

    def _pass_on_eof(self) -> None:
        """This side has ended: so does the other's writing; the second EOF ends both."""
        peer = self._peer
        if not isinstance(peer, AsyncioTransport) or peer._eof_written or peer.is_closing():
            return
        peer._eof_written = True
        if self._eof_written:
            self.close()
            return
        peer._inner.write_eof()
        limit = self._engine.limits.half_close_timeout
        if limit is not None:
            exc = HalfCloseTimeout(limit)
            self._half_timer = self._engine.loop.call_later(limit, self._fail, exc)

    def _orphaned(self, exc: BaseException | None) -> None:
        """The other side is lost: end as it did; a reset by the network is passed on as one."""
        self._peer = None
        if exc is not None and not isinstance(exc, MuxcoreError):
            exc = passed_on(exc)
            with contextlib.suppress(OSError):
                sock = self._inner.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if exc is not None or not self.is_closing():
            self._fail(exc)

    # -- the stricter rules

    def _fail(self, exc: BaseException | None) -> None:
        """Close now, and have ``connection_lost`` receive ``exc``."""
        if not self._lost and self._reason is None:
            self._reason = exc
            self._cut()

    def _write(self, data: Bytes) -> None:
        inner = self._inner
        if not inner.is_closing():
            # uvloop, and asyncio from 3.12 on, keep what they cannot send at once without a copy
            inner.write(data if isinstance(data, bytes) or not _is_bytes(data) else bytes(data))
            self._written += memoryview(data).nbytes
            size = inner.get_write_buffer_size()
            if size > self._engine.limits.write_buffer:
                self._fail(BufferLimitExceeded(size, self._engine.limits.write_buffer))
        elif not _is_bytes(data):
            raise TypeError(f"write() needs a bytes-like object, not {type(data).__name__}")
        elif self._eof_written:
            raise RuntimeError("write() after write_eof()")

    def _protect(self) -> None:
        """Read no more: nobody else stops the peer."""
        self._protected = True
        if not self._eof_heard:
            self._inner.pause_reading()

    def _unprotect(self) -> None:
        self._protected = False
        self._read_if_allowed()

    def _read_if_allowed(self) -> None:
        if not (self._user_paused or self._protected or self.is_closing()):
            if not self._eof_heard:
                self._inner.resume_reading()
            if self._early:
                early, self._early = self._early, b""
                self._engine.loop.call_soon(self._deliver, early)
            if self._early_eof:
                self._early_eof = False
                self._engine.loop.call_soon(self._deliver_eof)

    def _arrived(self, data: bytes) -> None:
        """Count what was received, and deliver it, or keep it where the protocol has paused.

        uvloop begins to read after ``connection_made``, also if that has paused the reading.
        """
        self._bytes_in += len(data)
        if self._user_paused:
            self._early += data
        else:
            self._deliver(data)
        if (self._user_paused or self._protected) and not self.is_closing():
            self._inner.pause_reading()

    def _deliver(self, data: bytes) -> None:
        if self._verb is Verb.ECHO:
            self._write(data)
        elif self._verb is Verb.RELAY and self._peer is not None:
            self._peer._write(data)
        elif self._verb is None and not self.is_closing():
            dispatch.call(self, self._protocol, "data_received", data)

    def _deliver_eof(self) -> None:
        """Tell the protocol of an EOF that was early; a verb has answered it already."""
        if self._verb is not None or self.is_closing():
            return
        if not dispatch.call(self, self._protocol, "eof_received"):
            self.close()

    # -- for the bridges

    def _made(self, inner: Any) -> None:
        self._inner = inner
        limits = self._engine.limits
        inner.set_write_buffer_limits(high=limits.write_high, low=limits.write_low)
        if limits.idle_timeout is not None:
            self._moved = ((), self._engine.loop.time())
            self._look_idle()
        dispatch.call(self, self._protocol, "connection_made", self)
        if self._declared is not None and self._verb is None and not self.is_closing():
            self._begin(self._declared)
        if self._engine.ending:  # it was on its way when the server's end began
            self.close()

    def _gone(self, exc: BaseException | None) -> None:
        self._lost = True
        for timer in (self._idle_timer, self._half_timer):
            if timer is not None:
                timer.cancel()
        reason = exc if self._reason is None else self._reason
        try:
            dispatch.call(self, self._protocol, "connection_lost", reason)
        finally:
            peer, self._peer = self._peer, None
            if peer is not None:
                peer._orphaned(reason)
            self._engine.gone(self, reason)

    def _look_idle(self) -> None:
        """Look whether a byte has moved; asyncio does not tell when it sends one."""
        limit, now = self._engine.limits.idle_timeout, self._engine.loop.time()
        counted: tuple[int, ...] = self.counted()
        if isinstance(self._peer, AsyncioTransport):  # a relay has one deadline
            counted += self._peer.counted()
        if counted != self._moved[0]:
            self._moved = (counted, now)
        if now - self._moved[1] >= limit:
            self._fail(IdleTimeout(limit))
        elif not self._lost:
            self._idle_timer = self._engine.loop.call_later(limit / _IDLE_LOOKS, self._look_idle)


def _is_bytes(data: Any) -> bool:
    return isinstance(data, bytes | bytearray | memoryview)
