"""A relay's rules: each side's bytes fill the other's write buffer, and each direction ends alone.

A reader of one connection's life may skip this file: ``_peer`` is None there.
"""

from __future__ import annotations

import abc
from typing import Self

from muxcore.parts.states import (
    HOLD_BACKLOG,
    HOLD_CONNECT,
    HOLD_EOF,
    HOLD_FIRST,
    HOLD_USER,
    LOST,
    OPEN,
)
from muxcore.parts.verbs import Verbs
from muxcore.protocol import Bytes, Verb


class Relaying(Verbs):
    """The half of a transport that has to do with another side; ``BaseTransport`` is the rest."""

    __slots__ = ("_choked", "_hold", "_state")

    _state: int
    _hold: int
    _choked: bool

    def _wait_for_peer(self) -> None:
        self._set_hold(HOLD_CONNECT)
        self._clear_hold(HOLD_USER)

    def _join(self, peer: Self, first: Bytes, back: Bytes) -> None:
        for side, who in ((self, "the connection"), (peer, "the peer")):
            if side._state != OPEN:
                raise ValueError(f"relay(): {who} is closing")
        self._peer, peer._peer = peer, self
        for side, head in ((peer, first), (self, back)):
            side._verb = Verb.RELAY
            side._verb_begun(Verb.RELAY)
            if head and side._state == OPEN:
                side._put(head)
        for side, other in ((self, peer), (peer, self)):
            side._clear_hold(HOLD_USER | HOLD_CONNECT | HOLD_BACKLOG)
            if other._choked:
                side._set_hold(HOLD_BACKLOG)
            if side._hold & HOLD_EOF:  # it was heard before: pass it on now
                side._pass_on_eof()

    def _pass_on_eof(self) -> None:
        """This side has ended: so does the other's writing, once all is sent."""
        peer = self._partner()
        if peer is self or peer._eof_written:
            return
        if not self._eof_written:
            self._hold |= HOLD_FIRST
        if self._engine.limits.half_close_timeout == 0:
            self.close()  # both, once what is queued is sent
            return
        peer._eof_written = True
        self._end_if_both_have()
        if self._state != LOST:
            if not self._eof_written:
                self._half_closed()
            if not peer.get_write_buffer_size():
                peer._shutdown_write()

    def _end_if_both_have(self) -> None:
        """End a relay of which both directions have, and all is sent."""
        sides = (self, self._partner())
        if all(side._eof_written and not side.get_write_buffer_size() for side in sides):
            self._fail(None)

    def _partner(self) -> Self:
        """Whose bytes fill its write buffer, and whose its bytes fill: a relay's other side."""
        peer = self._peer
        return peer if isinstance(peer, type(self)) else self

    # -- the rest of a transport

    @abc.abstractmethod
    def get_write_buffer_size(self) -> int: ...

    @abc.abstractmethod
    def _put(self, data: Bytes) -> None: ...

    @abc.abstractmethod
    def _shutdown_write(self) -> None: ...

    @abc.abstractmethod
    def _set_hold(self, reason: int) -> None: ...

    @abc.abstractmethod
    def _clear_hold(self, reason: int) -> None: ...

    @abc.abstractmethod
    def _verb_begun(self, verb: Verb) -> None: ...

    @abc.abstractmethod
    def _half_closed(self) -> None: ...
