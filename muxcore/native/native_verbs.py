"""What a connection of the C core does at a verb: it hands over what C has already given it.

The verb is C's from then on. Two things may be in Python when it begins: bytes that were kept while
reading was held, and events of this batch that are yet to come; both go to the verb, in order.
"""

from __future__ import annotations

import abc
import errno
from typing import Any, Self

from muxcore.native.attempt import Attempt
from muxcore.native.core_loop import CoreLoop
from muxcore.native.native_known import NativeKnown
from muxcore.native.native_rates import NativeBucket, refuse_failed
from muxcore.parts.states import HOLD_CLOSING, HOLD_EOF, OPEN
from muxcore.parts.transport import BaseTransport
from muxcore.protocol import Bytes, Verb, handles
from muxcore.rate import Rate, bucket_of

VERBS = {None: 0, Verb.ECHO: 1, Verb.DISCARD: 2, Verb.RELAY: 3}
"""enum mux_verb, by its name in Python."""


class NativeVerbs(NativeKnown, BaseTransport):
    """The verbs of a transport of the C core; ``NativeTransport`` is the rest."""

    __slots__ = ("_generation", "_head", "_hears", "_kept", "_plain", "_slot")

    _engine: CoreLoop
    _slot: int
    _generation: int
    _kept: list[bytes] | None  # received and not delivered; b"" is the peer's EOF
    _plain: bool  # a write needs no other look
    _hears: bool  # what comes goes to ``data_received``
    _head: bytes  # of a gathered write

    @abc.abstractmethod
    def _cross(self) -> None:
        """Let gathered writes cross into C."""

    def _limit(self, rates: tuple[Rate, ...]) -> None:
        engine = self._engine
        numbers = [bucket_of(each, engine, self._bucket).number for each in rates]
        slot = engine.loop, self._slot, self._generation
        refuse_failed(engine.lib.mux_limit(*slot, numbers, len(numbers)))

    def _bucket(self, rate: Rate) -> NativeBucket:
        return NativeBucket(self._engine, rate)

    def _begin(self, verb: Verb) -> None:
        self._verb = verb
        self._verb_begun(verb)
        kept = self._take_kept()
        self._hold &= HOLD_EOF  # a backlog is C's to mind from now on
        self._give_to_verb(kept)
        if self._hold & HOLD_EOF:  # it was heard before the verb: answer it now
            self.close()

    def _verb_begun(self, verb: Verb) -> None:
        self._cross()
        self._plain = self._hears = False
        self._head = b""  # it writes no more: half a hundred bytes of a pair that is idle

    def _give_to_verb(self, data: bytes) -> None:
        """Let the verb begin, or go on, with bytes that C has already handed out."""
        engine, verb = self._engine, VERBS[self._verb]
        said = engine.lib.mux_verb(engine.loop, self._slot, self._generation, verb, data, len(data))
        if said == -errno.EINVAL:  # anything else means that its end is yet to be heard of
            raise RuntimeError(f"the C core cannot begin the verb {self._verb} here")

    def _wait_for_peer(self) -> None:
        super()._wait_for_peer()
        self._verb_begun(Verb.RELAY)

    def _meet_less(self, peer: Any, first: bytes) -> bool:
        if not isinstance(peer, Attempt):
            return False
        self._cross()
        engine = self._engine
        if engine.movers:
            engine.begin_movers()
        to_peer = first + b"".join(self._kept or ())
        names = self._slot, self._generation, *peer.name_in_c()
        if engine.lib.mux_relay(engine.loop, *names, to_peer, len(to_peer), b"", 0) < 0:
            raise ValueError("relay(): the connection or the peer is closing")
        self._verb = Verb.RELAY
        self._verb_begun(Verb.RELAY)
        self._take_kept()
        self._hold &= HOLD_EOF | HOLD_CLOSING
        if self._hold & HOLD_EOF:  # it was heard before: pass it on now
            self._give_to_peer(b"")
        if len(to_peer) > engine.limits.write_buffer:
            self._keep_cap(engine.lib.mux_queued(engine.loop, *peer.name_in_c()))
        peer.forget()
        self._leave_to_c()
        return True

    def _join(self, peer: Self, first: Bytes, back: Bytes) -> None:
        self._cross()
        peer._cross()
        engine = self._engine
        if engine.movers:
            engine.begin_movers()
        to_peer = bytes(first) + b"".join(self._kept or ())
        to_self = bytes(back) + b"".join(peer._kept or ())
        joined = engine.lib.mux_relay(
            engine.loop,
            *(self._slot, self._generation, peer._slot, peer._generation),
            *(to_peer, len(to_peer), to_self, len(to_self)),
        )
        if joined < 0:  # C has lost one of them, and the event that says so is yet to come
            raise ValueError("relay(): the connection or the peer is closing")
        for side, other in ((self, peer), (peer, self)):
            side._verb, side._peer = Verb.RELAY, other
            side._verb_begun(Verb.RELAY)
            side._take_kept()
            side._hold &= HOLD_EOF | HOLD_CLOSING
        for side, more in ((self, to_self), (peer, to_peer)):
            if more:
                side._keep_cap(side.get_write_buffer_size())
            if side._hold & HOLD_EOF:  # it was heard before: pass it on now
                side._give_to_peer(b"")
        for side in (self, peer):
            side._leave_to_c()

    def _take_kept(self) -> bytes:
        """Return what was received and not delivered; the peer's EOF among it counts as heard."""
        kept, self._kept = self._kept or [], None
        if b"" in kept:
            self._hold |= HOLD_EOF
        return b"".join(kept)

    def _give_to_peer(self, data: bytes) -> None:
        """Pass on what C has already handed out: bytes, or none: the EOF."""
        engine = self._engine
        engine.lib.mux_relay_more(engine.loop, self._slot, self._generation, data, len(data))

    def _leave_to_c(self) -> None:
        """Forget it, unless somebody is to hear of its end."""
        engine = self._engine
        if self._state != OPEN or self in engine.witnesses:
            return
        if handles(self._protocol, "connection_lost"):
            return
        if engine.lib.mux_forget(engine.loop, self._slot, self._generation) == 0:
            engine.set_transport(self._slot, None)
            peer = self._partner()
            if peer is not self:  # else the other side was forgotten before
                peer._peer = None  # nothing else keeps this object

    def _half_closed(self) -> None:
        """C keeps that deadline."""
