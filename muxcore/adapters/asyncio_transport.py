"""One connection of the adapters: asyncio's transport, wrapped just enough.

Two objects a connection. The *bridge* is what asyncio's transport talks to; it passes each callback
on to the user's protocol, through the one place that handles errors. The *transport* is what the
user's protocol talks to; it passes each call on to asyncio's. They differ from nothing in between
only where ``protocol.py`` says that muxcore is stricter (``asyncio_passing.py``), and by the verbs
(here).
"""

from __future__ import annotations

import asyncio
from typing import Self

from muxcore.adapters.asyncio_bridges import NOBODY, RelayBridge, VerbBridge
from muxcore.adapters.asyncio_lingering import Lingering
from muxcore.adapters.asyncio_passing import Passing
from muxcore.protocol import Bytes, Verb


class AsyncioTransport(Passing):
    """What the user's protocol holds: asyncio's transport plus the verbs."""

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self.is_closing() else "open"
        verb = f" {self._verb.value}" if self._verb else ""
        return f"<{type(self).__name__} {state}{verb} peer={self.get_extra_info('peername')!r}>"

    def _begin(self, verb: Verb) -> None:
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
        elif isinstance(self._peer, AsyncioTransport):
            self._peer._write(data)

    # -- a relay: asyncio's transports flush before they send EOF or close

    def _wait_for_peer(self) -> None:
        self._user_paused = True
        self._ask("pause_reading")
        self._use(RelayBridge(self))  # uvloop may tell of an EOF all the same

    def _join(self, peer: Self, first: Bytes, back: Bytes) -> None:
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
        self._is_first = not self._eof_written
        together = self._engine.limits.half_close_timeout == 0
        if self._eof_written or together:
            self.close()  # both, once what is queued is sent
            return
        peer._eof_written = True
        peer._end_writing()
        self._watch_half_close()

    # -- for the bridges and the engine

    @property
    def was_made(self) -> bool:
        """Whether its life has begun, so that it ends in ``_gone``."""
        return self._lost or self._inner is not None

    def fileno(self) -> int:
        return self._sock.fileno()

    def ended_first(self) -> bool:
        """Whether the peer ended a relay: see ``ToItsEnd``."""
        return self._is_first

    def _made(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self._marks_changed()
        self._watch_idle()
        self._tell("connection_made", self)
        self._begin_declared(self.declared)
        if self._engine.draining:
            self.tell_draining()
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
            self._tell_lost(reason)
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
