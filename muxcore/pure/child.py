"""What a child of the process model does: it serves its client, and what that connects to.

With one connection it makes plain blocking calls. Once the client's protocol has opened others, it
asks poll(2) which of them has something.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import Stopped
from muxcore.parts import connecting
from muxcore.parts.timers import LONGEST_WAIT
from muxcore.protocol import AnyProtocol, Service, Verb
from muxcore.pure.blocking_connect import Outgoing
from muxcore.pure.blocking_linger import Linger
from muxcore.pure.blocking_transport import BlockingTransport
from muxcore.pure.shared_counters import DRAINING, SharedCounters

T = TypeVar("T")


class Told(BaseException):
    """The child is told to end while it waits: raised out of the wait by the signal handler."""


class Child:
    """The one process of one client.

    Args:
        engine: the process engine, as this child inherited it.
        counters: shared with the parent.
        slot: this child's slot in them.
    """

    def __init__(self, engine: Engine, counters: SharedCounters, slot: int) -> None:
        self._engine = engine
        self.counters = counters
        self.slot = slot
        self._transports: list[BlockingTransport] = []
        self._outgoing: deque[Outgoing] = deque()  # asked for; the first may have begun
        self._lingering: list[Linger] = []
        self._stops = 0  # times it was told to end
        self._heeded = 0  # of these, those that the turn knew of when it began
        self._waits = self._polls = False
        self._untold = False  # some connection has yet to hear of a drain
        self._told: list[BlockingTransport] = []  # those that have

    def serve(
        self, sock: socket.socket, peername: Any, protocol: AnyProtocol, verb: Verb | None
    ) -> None:
        """Serve the client, and what it connects to, until all have ended."""
        self._client = self.add(sock, peername, protocol, verb)
        while self._transports or self._outgoing or self._lingering:
            self._heeded = self._stops
            if self._untold:
                self._tell_draining()
            if self._outgoing:
                if not self._outgoing[0].open():
                    self.counters.connected(self.slot, -1)
                self._outgoing.popleft()
            else:
                with contextlib.suppress(Told):
                    self._turn()
            for transport in [each for each in self._transports if each.is_lost()]:
                self._transports.remove(transport)
                lingering = transport.lost()
                if lingering is not None:
                    self._lingering.append(lingering)
                if transport is not self._client:
                    self.counters.connected(self.slot, -1)
            self._lingering = [each for each in self._lingering if not each.is_over()]
            if self._engine.draining and self._client.is_lost():
                self._close_others()

    def _close_others(self) -> None:
        """Close what the client's protocol has opened: a drain does not wait for that."""
        for outgoing in self._outgoing:
            outgoing.fail(connecting.ended())
        for transport in self._transports:
            transport.close()

    def wait(self, call: Callable[..., T], *args: Any) -> T:
        """Make a call that may wait.

        Raises:
            Told: the child was told to end, meanwhile or since the turn began.
        """
        self._waits = True
        try:
            if self._stops != self._heeded:
                raise Told
            return call(*args)
        finally:
            self._waits = False

    def add(
        self, sock: socket.socket, peername: Any, protocol: AnyProtocol, verb: Verb | None
    ) -> BlockingTransport:
        """Serve one more connection."""
        transport = BlockingTransport(
            self._engine, self, sock, protocol, peername, self.counters, self.slot
        )
        self._transports.append(transport)
        for _ in range(self._stops):
            transport.stop(self._why())
        transport.opened(verb)
        if self._engine.draining:
            self._untold = True
        return transport

    def look(self) -> None:
        """See whether the parent drains; called by the signal handler, and when that is set."""
        if self.counters.phase == DRAINING:
            self._drain()

    def terminate(self, parent: int) -> None:
        """Do what a SIGTERM asks for; called by its handler.

        It ends a child if it comes from its parent, or at that one's end (prctl(2)). Who sends it
        to all processes of a service, as systemd does, has told the parent, too, and that drains.
        """
        if self.counters.is_told(self.slot) or os.getppid() != parent:
            self.stop()
        else:
            self._drain()

    def _drain(self) -> None:
        if self._engine.draining:
            return
        self._engine.draining = self._untold = True
        for transport in self._transports:
            transport.wake()
        if self._polls:  # that takes nothing from the kernel, and so loses nothing
            self._waits = self._polls = False
            raise Told

    def _tell_draining(self) -> None:
        self._untold = False
        for transport in [each for each in self._transports if each not in self._told]:
            self._told.append(transport)
            transport.woken()
            transport.tell_draining()
        self.counters.heard(self.slot, self._client in self._engine.may_rest)

    def _why(self) -> BaseException | None:
        """Return what connections hear that are told to end."""
        return Stopped() if self.counters.phase == DRAINING else None

    def stop(self) -> None:
        """End soon; called by the signal handler, a second time if the first was not enough."""
        self._stops += 1
        self._engine.ending = True
        for outgoing in list(self._outgoing):
            outgoing.fail(connecting.ended())
        for transport in self._transports:
            transport.stop(self._why())
        if self._stops > 1:
            for lingering in self._lingering:
                lingering.end()
        if self._waits:
            self._waits = self._polls = False
            raise Told

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
        if self._transports and not wanted:  # nobody is left who could resume one, or write
            for transport in self._transports:
                transport.end()
        elif (
            len(self._transports) == 1
            and not self._lingering
            and wanted.get(self._transports[0]) == select.POLLIN
        ):
            self._transports[0].receive()
        else:
            self._poll(wanted)

    def _poll(self, wanted: dict[BlockingTransport, int]) -> None:
        """Wait until one of several has something, or a deadline has passed."""
        left = [each.time_left() for each in self._transports]
        poll = select.poll()
        for transport, mask in wanted.items():
            poll.register(transport.fileno(), mask)
        for lingering in self._lingering:
            poll.register(lingering.fileno(), select.POLLIN)
            left.append(Linger.LOOK_EVERY)
        wait = min((seconds for seconds in left if seconds is not None), default=LONGEST_WAIT)
        self._polls = True
        if self._untold:  # it was told just now
            wait = 0.0
        events = dict(self.wait(poll.poll, min(wait, LONGEST_WAIT) * 1000))
        self._polls = False
        for transport in wanted:  # an earlier callback of this turn may have ended it
            if transport.fileno() in events and not transport.is_lost():
                transport.on_event(events[transport.fileno()])
