"""What the user's protocol asks for, passed on to asyncio's transport.

The rules are asyncio's wherever ``protocol.py`` does not say that muxcore is stricter. Two things
are kept from asyncio's transport, so that both loops do the same:

- an error of a call that the user made (shutdown(2) of a connection that is reset) fails the
  connection, as it does on our own engines, and is not raised out of the call;
- what is asked for within ``get_buffer`` is done when that has returned: uvloop crashes on it.
"""

from __future__ import annotations

import asyncio
import socket
from socket import SO_LINGER, SOL_SOCKET
from threading import get_ident
from typing import Any, Self

from muxcore.adapters.asyncio_bridges import Bridge, bridge_for
from muxcore.adapters.asyncio_lingering import Lingering, linger
from muxcore.adapters.asyncio_loop import GuardedLoop
from muxcore.adapters.asyncio_telling import Telling
from muxcore.errors import BufferLimitExceeded
from muxcore.parts import dispatch
from muxcore.parts.joining import Joining
from muxcore.parts.transport import ENDS_BY_RESET, RESET
from muxcore.parts.transport_socket import TransportSocket
from muxcore.parts.verbs import BYTES, Verbs
from muxcore.protocol import AnyProtocol, Bytes, Verb

_MOST = 2**31 - 1  # water mark: uvloop keeps it in a C int; above 2 GiB nothing pauses anyway


class Passing(Verbs, Telling):
    """asyncio's transport, wrapped; what the verbs add is in ``AsyncioTransport``.

    Args:
        engine: the adapter.
        protocol: what the service returned.
        sock: the connection's socket, which asyncio's transport closes.
        peername: the peer's socket address.
    """

    _engine: GuardedLoop
    _peer: Self | Joining | None

    def __init__(
        self, engine: GuardedLoop, protocol: AnyProtocol, sock: socket.socket, peername: Any
    ) -> None:
        super().__init__(engine, protocol)
        self._sock = sock
        self._peername = peername
        self._inner: asyncio.Transport | None = None  # once there is one
        self.declared: Verb | None = None  # the service's verb
        self._reason: BaseException | None = None  # for connection_lost: why we aborted
        self._closing = self._cut = False  # close() was called; it was aborted
        self._eof_written = self._eof_heard = False
        self._is_first = False  # of a relay's two sides to have ended
        self._choked = False  # above high water, and not yet at low water again
        self._lingering: Lingering | None = None
        self._asked: list[tuple[str, tuple[Any, ...]]] = []  # meanwhile, of asyncio's transport
        self._written = 0
        self._unsent: int | None = None  # of the write buffer that an abort dropped
        self._low, self._high = engine.limits.write_low, engine.limits.write_high

    # -- what is known of it

    def _counted(self) -> tuple[int, int]:
        """Return (bytes received, bytes sent)."""
        unsent = self._queued() if self._unsent is None else self._unsent
        return self._bytes_in, self._written - unsent

    def _socket(self) -> TransportSocket:
        return TransportSocket(self._sock)

    def get_protocol(self) -> AnyProtocol:
        return self._protocol

    def set_protocol(self, protocol: AnyProtocol) -> None:
        self._check_thread("set_protocol()")
        self._protocol = None if self._lost else protocol
        if self._verb is None and not self._lost:
            self._use(bridge_for(self, protocol))

    # -- reading

    def is_reading(self) -> bool:
        return not (self._user_paused or self.is_closing())

    def pause_reading(self) -> None:
        self._check_thread("pause_reading()")
        if self._verb is None and not self.is_closing():
            self._user_paused = True
            self._ask("pause_reading")

    def resume_reading(self) -> None:
        self._check_thread("resume_reading()")
        if self._verb is None and not self.is_closing():
            self._user_paused = False
            self._read_if_allowed()

    # -- writing

    def write(self, data: Bytes) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("write()")
        if self._verb is not None or self._eof_written or not isinstance(data, BYTES):
            self._refuse_write(data)
        self._write(data)

    def get_write_buffer_size(self) -> int:
        self._check_thread("get_write_buffer_size()")
        return self._queued()

    # -- the end

    def is_closing(self) -> bool:
        return self._closing or self._lost or self._inner is None or self._inner.is_closing()

    def has_ended(self) -> bool:
        return self._lost or self._cut

    def close(self) -> None:
        self._check_thread("close()")
        if self._inner is None or self.is_closing():
            return
        peer = self._peer
        self._closing = True
        if self._linger():
            self._ask("close")
            if self._queued():
                self._watch_close()
        if peer is not None:
            peer.close()

    def _linger(self) -> bool:
        """Let what is unread be dropped; False: the connection turns out to have failed."""
        if not self._eof_heard and self._engine.limits.linger_timeout:
            unread = self._may_be_unread or self._user_paused or self._protected
            queued = self._queued() > 0
            try:
                self._lingering = linger(
                    self._engine, self, self._sock, unread=unread, queued=queued
                )
            except OSError as exc:
                self._fail(exc)
                return False
        return True

    def _fail(self, exc: BaseException | None) -> None:
        """Close now, and have ``connection_lost`` receive ``exc``."""
        if self._lost or self._cut or self._inner is None or self._engine.forked:
            return
        self._closing = self._cut = True
        self._reason = exc
        if isinstance(exc, ENDS_BY_RESET):
            self._reset_at_close()
        self._unsent = self._queued()
        self._ask("abort")

    def _reset_at_close(self) -> None:
        try:
            self._sock.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        except OSError as exc:  # asyncio has closed it meanwhile
            dispatch.logger.debug("no reset is sent: %s", exc)

    # -- to asyncio's transport

    def _ask(self, what: str, *args: Any) -> None:
        """Call a method of asyncio's transport; within get_buffer, soon."""
        if self._lending:
            if not self._asked:
                self._engine.call_soon(self._ask_now)
            self._asked.append((what, args))
        elif self._inner is not None:
            getattr(self._inner, what)(*args)

    def _ask_now(self) -> None:
        """Make the calls that waited for the end of a get_buffer."""
        asked, self._asked = self._asked, []
        for what, args in asked:
            if what == "write_eof":
                self._end_writing()
            else:
                self._ask(what, *args)

    def _use(self, bridge: Bridge) -> None:
        """Let asyncio call another bridge from now on."""
        self.bridge = bridge
        self._ask("set_protocol", bridge)

    def _marks_changed(self) -> None:
        self._ask("set_write_buffer_limits", min(self._high, _MOST), min(self._low, _MOST))

    def _queued(self) -> int:
        inner = self._inner
        while inner is not None:
            try:
                return int(inner.get_write_buffer_size())
            except RuntimeError:  # stats() in a thread: asyncio of 3.12 sums what changes meanwhile
                continue
        return 0

    def _write(self, data: Bytes) -> None:
        if self.is_closing() or not data:
            return
        # uvloop, and asyncio from 3.12 on, keep what they cannot send at once without a copy
        owned = data if isinstance(data, bytes) else bytes(data)
        self._written += len(owned)
        if self._lending:
            self._ask("write", owned)
        elif self._inner is not None:
            self._inner.write(owned)
        size = self._queued()
        if size > self._engine.limits.write_buffer:
            self._fail(BufferLimitExceeded(size, self._engine.limits.write_buffer))

    def _end_writing(self) -> None:
        """Let asyncio send EOF after what is queued; shutdown(2) fails where the peer has reset."""
        try:
            self._ask("write_eof")
        except OSError as exc:
            self._fail(exc)

    def _protect(self) -> None:
        """Read no more: nobody else stops the peer."""
        self._protected = True
        if not self._eof_heard:
            self._ask("pause_reading")

    def _unprotect(self) -> None:
        self._protected = False
        self._read_if_allowed()

    def _read_if_allowed(self) -> None:
        if not (self._user_paused or self._protected or self.is_closing()):
            if not self._eof_heard:
                self._ask("resume_reading")
            if self._early or self._early_eof:
                self._engine.call_soon(self._deliver_early)

    def _check_thread(self, what: str) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread(what)
