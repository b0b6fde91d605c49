"""What a protocol may ask of its transport on every engine alike: what is refused, and the verbs.

Every engine's transport derives from this, the adapters' included, so that a misuse is refused in
the same words everywhere. It is decided here whether something is done; how, at the end.

A connection belongs to its engine's thread. Whatever changes it, or looks into it, compares that
first, in its own line: a call for that would cost more than the comparison.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from threading import get_ident
from typing import Any, NoReturn, Self, cast

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import MuxcoreError, NoUpstream, passed_on
from muxcore.parts import dispatch, witnesses
from muxcore.parts.joining import Joining
from muxcore.parts.known import Known
from muxcore.pool import Pool
from muxcore.protocol import AnyProtocol, Bytes, Transport, Verb, handles
from muxcore.rate import MOST_RATES, Rate

BYTES = (bytes, bytearray, memoryview)
_WHERE = (Pool, str, int, Address)  # what a peer is found by; a union would be made for each call


class Verbs(Known):
    """The part of a transport that is the same on every engine.

    Attributes:
        _peer: under ``relay()`` the other side, or the ``Joining`` that brings it.
    """

    __slots__ = ("_eof_written", "_high", "_low", "_peer", "_verb")

    _verb: Verb | None
    _peer: Self | Joining | None
    _eof_written: bool
    _low: int
    _high: int

    # -- reading

    def limit(self, *rates: Rate) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("limit()")
        self._engine.need("rates")
        for rate in rates:
            if not isinstance(rate, Rate):
                raise TypeError(f"limit() needs rates (muxcore.Rate), not {rate!r}")
        once = tuple(dict.fromkeys(rates))
        if len(once) > MOST_RATES:
            raise ValueError(f"limit() takes {MOST_RATES} rates at the most, not {len(once)}")
        if not self.is_closing():  # else what comes is dropped
            self._limit(once)

    # -- writing

    def writelines(self, lines: Iterable[Bytes]) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("writelines()")
        self.write(b"".join(lines))

    def write_eof(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("write_eof()")
        if self._verb is not None:
            raise RuntimeError(
                f"write_eof() after {self._verb.value}(): the engine moves the bytes now"
            )
        if not (self._eof_written or self.is_closing()):
            self._eof_written = True
            self._end_writing()

    def can_write_eof(self) -> bool:
        return True

    def _refuse_write(self, data: Any) -> NoReturn:
        """Say why ``data`` cannot be written."""
        if not isinstance(data, BYTES):
            raise TypeError(f"write() needs a bytes-like object, not {type(data).__name__}")
        if self._verb is not None:
            raise RuntimeError(
                f"write() after {self._verb.value}(): the engine moves the bytes now"
            )
        raise RuntimeError("write() after write_eof()")

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("set_write_buffer_limits()")
        if high is None:
            high = self._engine.limits.write_high if low is None else 4 * low  # asyncio's ratio
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        if not self.is_closing():
            self._marks_changed()

    # -- the end

    def add_witness(self, witness: AnyProtocol) -> None:
        """Have ``witness.connection_lost(exc)`` called at the end, after the protocol's.

        Whoever is the protocol by then. Where it has rates, those hold: ``up`` for what comes from
        here, ``down`` for what a relay's other side sends here.
        """
        engine = self._engine
        witnesses.add(engine.witnesses, self, witness)
        if witnesses.has_rates(witness):
            engine.witnesses_limit = True
            witnesses.limit(engine.witnesses, self)

    def abort(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("abort()")
        peer = self._peer
        self._fail(None)
        if peer is not None:
            peer._fail(None)

    def tell_draining(self) -> None:
        """Let the protocol hear that the server drains; under a verb nobody does."""
        protocol = self.get_protocol()
        if self._verb is not None or self.is_closing() or not handles(protocol, "draining"):
            return
        if dispatch.call(self, protocol, "draining"):
            self._engine.may_rest.add(self)

    # -- verbs

    def echo(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("echo()")
        self._check(Verb.ECHO, "the connection")
        self._begin(Verb.ECHO)

    def discard(self) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("discard()")
        self._check(Verb.DISCARD, "the connection")
        self._begin(Verb.DISCARD)

    def relay(
        self,
        peer: Transport | Pool | str | int | Address,
        *,
        first: Bytes = b"",
        back: Bytes = b"",
        timeout: float | None = None,
        key: str | Bytes = b"",
    ) -> None:
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("relay()")
        self._engine.need("relay")
        self._check(Verb.RELAY, "the connection")
        for name, head in (("first", first), ("back", back)):
            if not isinstance(head, BYTES):
                kind = type(head).__name__
                raise TypeError(f"relay(): {name} must be a bytes-like object, not {kind}")
        if isinstance(peer, _WHERE):
            self._find_peer(peer, bytes(first), bytes(back), timeout, _key(key))
            return
        if not isinstance(peer, Verbs):
            if self._meet_less(peer, bytes(first)):
                return
            raise TypeError(f"relay() needs a transport, an address or a Pool, not {peer!r}")
        if peer is self or peer._engine is not self._engine:
            which = "the connection itself" if peer is self else "a connection of another server"
            raise ValueError(f"relay(): the peer is {which}")
        peer._check(Verb.RELAY, "the peer")
        self._meet(cast(Self, peer), first, back)  # of one engine, so of one class

    def _meet(self, peer: Self, first: Bytes, back: Bytes) -> None:
        """Join them, with the rates that witnesses of either have for the other.

        Raises:
            ValueError: one of them has ended already.
        """
        if self._engine.witnesses_limit:
            known = self._engine.witnesses
            witnesses.limit(known, self, peer)
            witnesses.limit(known, peer, self)
        self._join(peer, first, back)

    def _meet_less(self, peer: Any, first: bytes) -> bool:
        """Join with what stands for a peer that has no transport: see ``Engine.connect_side``.

        Returns:
            Whether it is such a thing; this engine has none.
        """
        return False

    def _find_peer(
        self,
        peer: Pool | str | int | Address,
        first: bytes,
        back: bytes,
        timeout: float | None,
        key: bytes,
    ) -> None:
        """Wait for a connection to an address, or to one of a pool's."""
        if isinstance(peer, Pool):
            for capability in peer.requires:
                self._engine.need(capability)
        else:
            peer = addresses.parse(peer)
        try:  # it refuses a time-out that cannot be: nothing has changed until then
            joining = Joining(self, peer, first, back, timeout, key)
        except NoUpstream as exc:  # there is none to wait for
            self._fail(exc.with_traceback(None))  # which holds this object
            return
        self._peer = joining
        self._verb = Verb.RELAY
        self._wait_for_peer()

    def _check(self, verb: Verb, who: str) -> None:
        """Raise ``ValueError`` if the connection cannot be handed over."""
        if self.is_closing():
            raise ValueError(f"{verb.value}(): {who} is closing")
        if self._verb is not None:
            raise ValueError(f"{verb.value}(): {who} is under {self._verb.value}() already")
        if self._eof_written:
            raise ValueError(f"{verb.value}(): {who} has sent EOF already")

    def _begin_declared(self, verb: Verb | None) -> None:
        """Begin the service's verb, if it has one, unless ``connection_made`` has ended that."""
        if verb is not None and self._verb is None and not self.is_closing():
            try:
                self._check(verb, "the connection")
            except ValueError as exc:  # it has sent EOF
                dispatch.failed(self, self.get_protocol(), "connection_made", exc)
            else:
                self._begin(verb)

    def _orphaned(self, exc: BaseException | None) -> None:
        """A relay's other side is lost: end as it did; a reset by the network is passed on."""
        self._peer = None
        if exc is not None and not isinstance(exc, MuxcoreError):
            exc = passed_on(exc)
            self._reset_at_close()
        if exc is not None or not self.is_closing():  # else both were closed: send what is queued
            self._fail(exc)

    # -- for an engine's transport to fill in

    @abc.abstractmethod
    def is_closing(self) -> bool: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def get_write_buffer_size(self) -> int: ...

    @abc.abstractmethod
    def write(self, data: Bytes) -> None: ...

    @abc.abstractmethod
    def _end_writing(self) -> None:
        """Send EOF once all that is queued is sent."""

    @abc.abstractmethod
    def _marks_changed(self) -> None:
        """``_high`` and ``_low`` are others now."""

    def _limit(self, rates: tuple[Rate, ...]) -> None:
        """Let what is received count against these; asked where the engine has ``rates``."""
        raise NotImplementedError(f"{type(self).__name__} does not do what its engine says it can")

    @abc.abstractmethod
    def _begin(self, verb: Verb) -> None:
        """Hand the connection over: lift the user's pause, and let the engine have the bytes."""

    @abc.abstractmethod
    def _wait_for_peer(self) -> None:
        """Receive nothing until ``_peer``, a ``Joining``, brings the other side."""

    @abc.abstractmethod
    def _join(self, peer: Self, first: Bytes, back: Bytes) -> None:
        """Let every further byte of either go to the other, after ``first`` and ``back``.

        Raises:
            ValueError: one of them has ended already, whether this object knows it or only what
                the engine is built on; raised before anything has changed.
        """

    @abc.abstractmethod
    def _reset_at_close(self) -> None:
        """Let close(2) send a reset, and leave nothing in the kernel."""


def _key(key: Any) -> bytes:
    """Return a client's key for a pool as bytes.

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if isinstance(key, str):
        return key.encode()
    if not isinstance(key, BYTES):
        raise TypeError(f"relay(): key must be text or bytes, not {type(key).__name__}")
    return bytes(key)
