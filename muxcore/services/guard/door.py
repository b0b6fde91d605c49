"""Whether a connection is let in, by the rules as they are now and by who is in already."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from muxcore._seldom import Seldom
from muxcore.parts import dispatch
from muxcore.rate import Rate
from muxcore.services.guard.rules import Rules, share
from muxcore.services.guard.sources import Source, Sources
from muxcore.services.guard.speeds import Speeds
from muxcore.services.networks import source_of

logger = logging.getLogger("muxcore")

_WHY = {
    "denied": "it may not come from there",
    "connections": "there are as many connections as there may be",
    "rate": "too many came within a second",
    "source_connections": "its source has as many connections as one may have",
    "source_rate": "too many came from its source within a second",
}


class Door:
    """What the guards around one service, and its copies, have in common.

    Args:
        given: the settings.

    Attributes:
        given: the same.
        rules: what they say.
        active: connections that are in.
        sources: where they come from, where that matters.
        counts: see ``Guard``.
        name: what a file calls it, for the log.
    """

    name = ""

    def __init__(self, given: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.given = given
        self.rules = Rules.of(**given)
        self._knows_sources = self.rules.know_sources  # asked for each connection
        self._limits_sources = any(self.rules.source_bytes)
        self.active = 0
        self.counts: Counter[str] = Counter()
        self.sources = Sources(self, self.rules.sources)
        self.server: Any = None  # once it serves
        self._full_at = -math.inf  # of the rate of all together
        self._speeds = Speeds()
        self._speeds.become(self.rules.bytes_up, self.rules.bytes_down)
        self._clock = clock
        self._log = Seldom(logger.warning, clock)
        self._shared: tuple[tuple[int, int], Door] | None = None

    def share_of(self, number: int, count: int) -> Door:
        """Return the door of a worker: the same one for all guards that have this one."""
        if self._shared is None or self._shared[0] != (number, count):
            self._shared = (number, count), Door(share(self.given, number, count))
            self._shared[1].name = self.name
        return self._shared[1]

    def change(self, changes: dict[str, Any]) -> None:
        """Allow something else from now on; where it cannot be, nothing changes."""
        given = self.given | changes
        rules = Rules.of(**given)
        if self.server is not None:
            for capability in sorted(rules.requires - self.server.capabilities):
                self.server._engine.need(capability)
        self.given, self.rules, self._shared = given, rules, None
        self._knows_sources, self._limits_sources = rules.know_sources, any(rules.source_bytes)
        self.sources.most = rules.sources
        self._speeds.become(rules.bytes_up, rules.bytes_down)
        self.sources.become(*rules.source_bytes)

    def lets_in(self, transport: Any) -> bool:
        """Let a connection in, and count it to its end; or refuse it."""
        rules, now = self.rules, self._clock()
        peername = transport.get_extra_info("peername")
        source: Source | None = None
        why = self._refusal(rules, peername, now)
        if not why and self._knows_sources:
            source = self.sources.of(source_of(peername), now)
            why = _refusal_of(rules, source, now)
        if why:
            self._refuse(transport, why)
            return False
        self.active += 1
        self.counts["accepted"] += 1
        if rules.rate is not None:
            self._full_at = rules.rate.taken(self._full_at, now)
        if source is None:
            transport.add_witness(self)
            return True
        self.sources.entered(source)
        if self._limits_sources and source.speeds is None:
            source.speeds = Speeds()
            source.speeds.become(*rules.source_bytes)
        if rules.source_rate is not None:
            source.full_at = rules.source_rate.taken(source.full_at, now)
        transport.add_witness(source)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """One is gone whose source did not matter."""
        self.active -= 1

    def left(self, source: Source) -> None:
        self.active -= 1
        self.sources.left(source, self._clock() + self.rules.refill)

    @property
    def up(self) -> tuple[Rate, ...]:
        """What the bytes of all together count against."""
        return () if self._speeds.up is None else (self._speeds.up,)

    @property
    def down(self) -> tuple[Rate, ...]:
        return () if self._speeds.down is None else (self._speeds.down,)

    def _refusal(self, rules: Rules, peername: Any, now: float) -> str:
        """Return what is against a connection, wherever it comes from; "": nothing is."""
        if rules.deny is not None and rules.deny.have(peername):
            return "denied"
        if rules.allow is not None and not rules.allow.have(peername):
            return "denied"
        if rules.connections is not None and self.active >= rules.connections:
            return "connections"
        if rules.rate is not None:
            self._full_at = rules.rate.at_latest(self._full_at, now)
            if rules.rate.wait(self._full_at, now):
                return "rate"
        return ""

    def _refuse(self, transport: Any, why: str) -> None:
        self.counts[why] += 1
        by = f" by {self.name}" if self.name else ""
        peer = dispatch.peer_of(transport)
        self._log.tell("connection from %s is refused%s: %s", peer, by, _WHY[why])
        if self.rules.resets:
            from muxcore.parts.transport import RESET

            if (sock := transport.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):  # it is gone already
                    sock.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        transport.abort()


def _refusal_of(rules: Rules, source: Source, now: float) -> str:
    """Return what is against one more connection of a source; "": nothing is."""
    if rules.source_connections is not None and source.active >= rules.source_connections:
        return "source_connections"
    if rules.source_rate is not None:
        source.full_at = rules.source_rate.at_latest(source.full_at, now)
        if rules.source_rate.wait(source.full_at, now):
            return "source_rate"
    return ""
