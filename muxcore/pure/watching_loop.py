"""The descriptors of a loop in Python: who hears of their events, and whose a number is.

It is what connections, attempts and listeners of the pure engines see of their engine. A descriptor
may be closed by somebody else, and its number come up again: whoever had it hears so before the new
one is watched.
"""

from __future__ import annotations

import abc
import socket
from typing import Any, ClassVar, Protocol

from muxcore.errors import EngineUnavailable
from muxcore.limits import Limits
from muxcore.parts.turning import TurningLoop
from muxcore.protocol import Service
from muxcore.pure.poller import READ, Poller
from muxcore.stats import Stats


class Handler(Protocol):
    """Who hears of a descriptor."""

    def on_event(self, events: int) -> None:
        """It is ready: READ, WRITE, ERROR, and whatever else poll(2) and epoll(7) say."""

    def disowned(self) -> None:
        """Somebody else closed it, and its number may be another's by now."""

    def abandon(self) -> None:
        """Close it and do nothing else: this is a fork of the process that it belongs to."""


class Connection(Handler, Protocol):
    """A handler that the loop tells of its end."""

    fd: int

    def lost(self, exc: BaseException | None) -> None:
        """Deliver ``connection_lost``."""


class WatchingLoop(TurningLoop):
    """A loop with a poller, and a handler for each descriptor."""

    poller: ClassVar[type[Poller]]

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self.counters = Stats(errors=self.errors)
        # whether a connection notes when its bytes move: two looks at the clock, 0.1 µs a message
        self.clocked = self.limits.idle_timeout is not None
        self._poller = type(self).poller(trigger)
        self._handlers: dict[int, Handler] = {}
        waker = self._waker.fileno()
        reason = self.refuse(waker)
        if reason is not None:
            self._poller.close()
            self._waker.close()
            advice = "make the server before so many are open, or take pure-epoll"
            raise EngineUnavailable(self.name, reason, advice)
        self.watch(self, waker, READ)

    def count_in(self, cell: Stats) -> None:
        self.counters, self.errors = cell, cell.errors

    def refuse(self, fd: int) -> str | None:
        """Return why this descriptor cannot be watched, or None."""
        return self._poller.refuse(fd)

    def claim(self, handler: Handler, fd: int) -> None:
        """Have a descriptor's events go to ``handler``; whoever had the number lost it."""
        before = self._handlers.get(fd)
        if before is not handler:
            if before is not None:
                before.disowned()
            self._handlers[fd] = handler

    def watch(self, handler: Handler, fd: int, mask: int) -> None:
        """Report a descriptor's readiness for ``mask`` to ``handler`` from now on.

        Raises:
            OSError: it cannot be watched; ENOSPC: epoll(7), max_user_watches.
        """
        if self._handlers.get(fd) is not handler:
            self.claim(handler, fd)
        self._poller.watch(fd, mask)

    def forget(self, handler: Handler, fd: int) -> None:
        """Have a descriptor watched no longer, unless its number is another's by now."""
        if self._handlers.get(fd) is handler:
            del self._handlers[fd]
            self._poller.forget(fd)

    @abc.abstractmethod
    def open(
        self, sock: socket.socket, service: Service, peername: Any, *, outgoing: bool = False
    ) -> None:
        """Serve a connected, non-blocking socket."""

    @abc.abstractmethod
    def release(self, connection: Connection, exc: BaseException | None) -> None:
        """Take a connection out of the loop; it is told, and closed, at stage 4 of a turn."""

    # -- as a handler: of the waker

    def on_event(self, events: int) -> None:
        """The loop is awake, which is all the waker's event was for."""
        self._waker.drain()

    def disowned(self) -> None:
        raise RuntimeError("something in this process closed the descriptor of the engine's waker")

    def abandon(self) -> None:
        """Close every descriptor: connections and poller are the parent's."""
        for handler in list(self._handlers.values()):
            if handler is not self:
                handler.abandon()
        self._calls.clear()
        self.timers.clear()
        self._poller.close()
        self._waker.close()
        self.owner = None
