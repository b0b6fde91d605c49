"""What a child of the process model does: it serves its client, and what that connects to.

With one connection it makes plain blocking calls. Once the client's protocol has opened others, it
asks poll(2) which of them has something.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Any

from muxcore import connecting
from muxcore.address import Address
from muxcore.protocol import Service, Verb
from muxcore.pure.blocking_outgoing import Outgoing
from muxcore.pure.blocking_transport import BlockingTransport
from muxcore.pure.shared_counters import SharedCounters
from muxcore.timers import LONGEST_WAIT


class Child:
    """The one process of one client.

    Args:
        engine: the process engine, as this child inherited it.
        counters: shared with the parent.
        slot: this child's slot in them.
    """

    def __init__(self, engine: Any, counters: SharedCounters, slot: int) -> None:
        self._engine = engine
        self.counters = counters
        self.slot = slot
        self._transports: list[BlockingTransport] = []
        self._outgoing: deque[Outgoing] = deque()  # asked for; the first may have begun
        self._stops = 0  # times it was told to end

    def serve(self, sock: socket.socket, peername: Any, protocol: Any, verb: Verb | None) -> None:
        """Serve the client, and what it connects to, until all have ended."""
        self._client = self.add(sock, peername, protocol, verb)
        while self._transports or self._outgoing:
            if self._outgoing:
                if not self._outgoing[0].open():
                    self.counters.connected(self.slot, -1)
                self._outgoing.popleft()
            else:
                self._turn()
            for transport in [each for each in self._transports if each.is_lost()]:
                self._transports.remove(transport)
                transport.lost()
                if transport is not self._client:
                    self.counters.connected(self.slot, -1)

    def add(
        self, sock: socket.socket, peername: Any, protocol: Any, verb: Verb | None
    ) -> BlockingTransport:
        """Serve one more connection."""
        transport = BlockingTransport(
            self._engine, sock, protocol, peername, self.counters, self.slot
        )
        self._transports.append(transport)
        for _ in range(self._stops):
            transport.stop()
        transport.opened(verb)
        return transport

    def stop(self) -> None:
        """End soon; called by the signal handler, the second time because the first did not do."""
        self._stops += 1
        self._engine.ending = True
        for outgoing in list(self._outgoing):
            outgoing.fail(connecting.ended())
        for transport in self._transports:
            transport.stop()

    def connect(self, where: Address, service: Service, timeout: float) -> Outgoing:
        """Open a connection once the callback that asks for it has returned."""
        outgoing = Outgoing(self, where, service, timeout)
        already = self.counters.snapshot().outgoing
        self.counters.connected(self.slot, 1)
        self._outgoing.append(outgoing)  # from here on stop() sees it
        refusal = connecting.refused(self._engine, where, already)
        if refusal is not None:
            outgoing.fail(refusal)
        return outgoing

    def failed(self, exc: BaseException) -> None:
        self.counters.failed(self.slot, type(exc).__name__)

    # -- one turn

    def _turn(self) -> None:
        wanted = {each: each.wants() for each in self._transports if each.wants()}
        if not wanted:  # nobody is left who could resume one, or write
            for transport in self._transports:
                transport.end()
        elif len(self._transports) == 1 and wanted.get(self._transports[0]) == select.POLLIN:
            self._transports[0].receive()
        else:
            self._poll(wanted)

    def _poll(self, wanted: dict[BlockingTransport, int]) -> None:
        """Wait until one of several has something, or a deadline has passed."""
        left = [each.time_left() for each in self._transports]
        poll = select.poll()
        for transport, mask in wanted.items():
            poll.register(transport.fileno(), mask)
        wait = min((seconds for seconds in left if seconds is not None), default=None)
        events = dict(poll.poll(None if wait is None else min(wait, LONGEST_WAIT) * 1000))
        for transport in wanted:  # an earlier callback of this turn may have ended it
            if transport.fileno() in events and not transport.is_lost():
                transport.on_event(events[transport.fileno()])
