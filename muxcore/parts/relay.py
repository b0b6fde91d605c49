"""A relay's rules: each side's bytes fill the other's write buffer, and each direction ends alone.

A reader of one connection's life may skip this file: ``_peer`` is None there.
"""

from __future__ import annotations

import abc
from threading import get_ident
from typing import Any

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import MuxcoreError, passed_on
from muxcore.parts.joining import Joining
from muxcore.parts.states import HOLD_BACKLOG, HOLD_CONNECT, HOLD_EOF, HOLD_USER, LOST, OPEN
from muxcore.protocol import Bytes, Verb


class Relaying(abc.ABC):
    """The half of a transport that has to do with another side; ``BaseTransport`` is the rest.

    Attributes:
        _peer: under ``relay()`` the other side, or the ``Joining`` that brings it.
    """

    __slots__ = ("_choked", "_engine", "_eof_written", "_hold", "_peer", "_state", "_verb")

    _engine: Any
    _state: int
    _hold: int
    _verb: Verb | None
    _peer: Any
    _eof_written: bool
    _choked: bool

    def relay(
        self, peer: Any, *, first: Bytes = b"", back: Bytes = b"", timeout: float | None = None
    ) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("relay()")
        self._engine.need("relay")
        self._check(Verb.RELAY, "the connection")
        for name, head in (("first", first), ("back", back)):
            if not isinstance(head, bytes | bytearray | memoryview):
                kind = type(head).__name__
                raise TypeError(f"relay(): {name} must be a bytes-like object, not {kind}")
        if isinstance(peer, str | int | Address):
            # it refuses an address or a time-out that cannot be: nothing has changed until then
            joining = Joining(self, addresses.parse(peer), bytes(first), bytes(back), timeout)
            self._verb, self._peer = Verb.RELAY, joining
            self._set_hold(HOLD_CONNECT)
            self._clear_hold(HOLD_USER)
            return
        if not isinstance(peer, Relaying):
            raise TypeError(f"relay() needs a transport or an address, not {peer!r}")
        if peer is self or peer._engine is not self._engine:
            which = "the connection itself" if peer is self else "a connection of another server"
            raise ValueError(f"relay(): the peer is {which}")
        peer._check(Verb.RELAY, "the peer")
        self._join(peer, first, back)

    def _check(self, verb: Verb, who: str) -> None:
        if self._state != OPEN:
            raise ValueError(f"{verb.value}(): {who} is closing")
        if self._verb is not None:
            raise ValueError(f"{verb.value}(): {who} is under {self._verb.value}() already")
        if self._eof_written:
            raise ValueError(f"{verb.value}(): {who} has sent EOF already")

    # -- a relay: each side's bytes fill the other's write buffer

    def _join(self, peer: Any, first: Bytes, back: Bytes) -> None:
        """Let every further byte of either go to the other, after ``first`` and ``back``.

        Raises:
            ValueError: one of them has ended already, whether this object knows it or only what
                the engine is built on; raised before anything has changed.
        """
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
        peer = self._peer
        if peer is None or peer._eof_written:
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
        sides = (self, self._peer)
        if all(side._eof_written and not side.get_write_buffer_size() for side in sides):
            self._fail(None)

    def _orphaned(self, exc: BaseException | None) -> None:
        """The other side is lost: end as it did; a reset by the network is passed on as one."""
        self._peer = None
        if exc is not None and not isinstance(exc, MuxcoreError):
            exc = passed_on(exc)
            self._reset_at_close()
        if exc is not None or self._state == OPEN:  # else both were closed: send what is queued
            self._fail(exc)

    def _partner(self) -> Any:
        """Whose bytes fill its write buffer, and whose its bytes fill: a relay's other side."""
        return self._peer if isinstance(self._peer, Relaying) else self

    # -- the rest of a transport

    @abc.abstractmethod
    def get_write_buffer_size(self) -> int: ...

    @abc.abstractmethod
    def _put(self, data: Bytes) -> None: ...

    @abc.abstractmethod
    def _shutdown_write(self) -> None: ...

    @abc.abstractmethod
    def _fail(self, exc: BaseException | None) -> None: ...

    @abc.abstractmethod
    def _reset_at_close(self) -> None: ...

    @abc.abstractmethod
    def _set_hold(self, reason: int) -> None: ...

    @abc.abstractmethod
    def _clear_hold(self, reason: int) -> None: ...

    @abc.abstractmethod
    def _verb_begun(self, verb: Verb) -> None: ...

    @abc.abstractmethod
    def _half_closed(self) -> None: ...
