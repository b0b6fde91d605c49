"""One connection of the adapters: asyncio's transport, wrapped just enough.

Two objects a connection. The *bridge* is what asyncio's transport talks to; it passes each callback
on to the user's protocol, through the one place that handles errors. The *transport* is what the
user's protocol talks to; it passes each call on to asyncio's. They differ from nothing in between
only where ``protocol.py`` says that muxcore is stricter (``asyncio_passing.py``), and by the verbs
(here).
"""

from __future__ import annotations

from typing import Any

from muxcore import address as addresses
from muxcore.adapters.asyncio_bridges import NOBODY, RelayBridge, VerbBridge
from muxcore.adapters.asyncio_lingering import Lingering
from muxcore.adapters.asyncio_passing import Passing
from muxcore.address import Address
from muxcore.errors import MuxcoreError, passed_on
from muxcore.parts.joining import Joining
from muxcore.protocol import Bytes, Verb


class AsyncioTransport(Passing):
    """What the user's protocol holds: asyncio's transport plus the verbs."""

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self.is_closing() else "open"
        verb = f" {self._verb.value}" if self._verb else ""
        return f"<{type(self).__name__} {state}{verb} peer={self._peername!r}>"

    def echo(self) -> None:
        self._check_thread("echo()")
        self._begin(Verb.ECHO)

    def discard(self) -> None:
        self._check_thread("discard()")
        self._begin(Verb.DISCARD)

    def relay(
        self, peer: Any, *, first: Bytes = b"", back: Bytes = b"", timeout: float | None = None
    ) -> None:
        self._check_thread("relay()")
        for head in (first, back):
            if not isinstance(head, bytes | bytearray | memoryview):
                what = type(head).__name__
                raise TypeError(f"relay() needs bytes-like objects for first and back, not {what}")
        self._check(Verb.RELAY, "the connection")
        if isinstance(peer, str | int | Address):
            joining = Joining(self, addresses.parse(peer), bytes(first), bytes(back), timeout)
            self._verb, self._peer = Verb.RELAY, joining
            self._user_paused = True
            self._ask("pause_reading")
            self._use(RelayBridge(self))  # uvloop may tell of an EOF all the same
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
        self._use(VerbBridge(self))
        if self._choked:
            self._protect()
        self._read_if_allowed()
        if self._eof_heard:  # before the verb: answer it now
            self._deliver_early()
            self.close()

    def _move(self, data: bytes) -> None:
        if self._verb is Verb.ECHO:
            self._write(data)
        elif self._verb is Verb.RELAY and self._peer is not None:
            self._peer._write(data)

    # -- a relay: asyncio's transports flush before they send EOF or close

    def _join(self, peer: Any, first: Bytes, back: Bytes) -> None:
        """Let every further byte of either go to the other, after ``first`` and ``back``."""
        self._peer, peer._peer = peer, self
        for side, other, head in ((peer, self, first), (self, peer, back)):
            side._verb = Verb.RELAY
            side._user_paused = side._protected = False
            side._use(RelayBridge(side))
            early, other._early = other._early, b""
            if head or early:
                side._write(bytes(head) + early)
        for side, other in ((self, peer), (peer, self)):
            if other._choked:
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
        peer._send_eof()
        self._watch_half_close()

    def _orphaned(self, exc: BaseException | None) -> None:
        """The other side is lost: end as it did; a reset by the network is passed on as one."""
        self._peer = None
        if exc is not None and not isinstance(exc, MuxcoreError):
            exc = passed_on(exc)
            self._close_with_reset()
        if exc is not None or not self.is_closing():
            self._fail(exc)

    # -- for the bridges and the engine

    @property
    def was_made(self) -> bool:
        """Whether its life has begun, so that it ends in ``_gone``."""
        return self._lost or self._inner is not None

    def fileno(self) -> int:
        return self._sock.fileno()

    def _made(self, inner: Any) -> None:
        self._inner = inner
        self._set_marks()
        self._watch_idle()
        self._tell("connection_made", self)
        if self.declared is not None and self._verb is None and not self.is_closing():
            self._begin(self.declared)
        if self._engine.ending:  # it was on its way when the server's end began
            self.close()

    def _gone(self, exc: BaseException | None) -> None:
        """Deliver ``connection_lost``, once; then nothing refers to the protocol any more."""
        if self._lost or self._inner is None:
            return
        self._lost = True
        self._stop_watching()
        reason, self._reason = self._reason if self._cut else exc, None
        try:
            self._tell("connection_lost", reason)
        finally:
            self._unsent = self._queued() if self._unsent is None else self._unsent
            peer, self._peer = self._peer, None
            if peer is not None:
                peer._orphaned(reason)
            # no cycle is left, so that the protocol is freed without the collector
            self._protocol = self._inner = None
            self.bridge = NOBODY
            self._early, self._asked = b"", []
            self._engine.gone(self, reason, self._end_lingering())

    def _end_lingering(self) -> Lingering | None:
        """All is sent, or given up; return what still waits until the peer has it."""
        lingering, self._lingering = self._lingering, None
        if lingering is None:
            return None
        if self._cut or self._unsent:
            lingering.close()
            return None
        return lingering if lingering.finish() else None
