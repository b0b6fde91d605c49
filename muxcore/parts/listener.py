"""A listening socket of a loop in Python: when it accepts, and when it rests.

It rests at the cap, after a failure, and while a client is for another worker to take.

Known weakness: accept(2) has no flag that keeps one call from waiting, as recv(2) and send(2) have.
A listener shared with another process that makes it blocking stops the loop.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from muxcore.limits import Limits
from muxcore.parts import dispatch, opening, sockets
from muxcore.parts.balance import PAUSE, Balance
from muxcore.protocol import Handle, Service
from muxcore.stats import Stats


class Accepting(Protocol):
    """What a listener sees of its engine."""

    limits: Limits
    counters: Stats
    balance: Balance | None  # with others that accept from the same sockets
    errors: Counter[str]

    def open(self, sock: socket.socket, service: Service, peername: Any) -> None: ...

    def alarm(self, delay: float, call: Callable[[], object]) -> Handle: ...

    def left_over(self, go_on: Callable[[], object]) -> None: ...

    def watch_listener(self, listener: Listener, fd: int) -> None:
        """Have ``on_event`` called while somebody waits to be accepted."""

    def forget_listener(self, listener: Listener, fd: int) -> None: ...


class Listener:
    """A listener of a loop: watched, resting after a failure, or resting at the cap.

    Args:
        engine: the loop's.
        sock: the listening socket, which is the listener's from now on.
        service: of what is accepted.
    """

    def __init__(self, engine: Accepting, sock: socket.socket, service: Service) -> None:
        self._engine = engine
        self._sock = sock
        self._fd = sock.fileno()
        self._service = service
        self._full = False  # at Limits.connections
        self._resting = False  # after a failure, or for another worker
        self._failing = False  # the last attempt failed: an episode is logged once
        self._closed = False

    def on_event(self, events: int = 0) -> None:
        """Accept until none waits, or this turn's budget is spent."""
        engine = self._engine
        for _ in range(engine.limits.accepts_per_turn):
            if engine.counters.open >= engine.limits.connections:
                self._full = True
                self._pause()
                return
            if engine.balance is not None and not engine.balance.may_accept():
                self._resting = True
                self._pause()
                engine.alarm(PAUSE, self._look_again)
                return
            try:
                accepted = sockets.accept(self._sock)
            except (sockets.OutOfResources, OSError) as exc:
                if isinstance(exc, OSError) and exc.errno == errno.EBADF:
                    self.disowned()
                else:
                    self._rest(exc)
                return
            if accepted is None:
                return
            self._failing = False
            engine.open(accepted[0], self._service, accepted[1])
            if self._closed or self._resting:
                return
        engine.left_over(self.go_on)

    def resume(self) -> None:
        if self._closed:
            return
        try:
            self._engine.watch_listener(self, self._fd)
        except OSError as exc:  # epoll_ctl(2): out of memory, or of watches
            self._rest(exc)

    def make_room(self) -> None:
        """A connection has gone: accept again if that is what this listener waits for."""
        if self._full:
            self._full = False
            self.resume()

    def close(self) -> None:
        if not self._closed:
            self._pause()
            self._closed = True
            opening.close_listener(self._sock)

    def disowned(self) -> None:
        """Give up: somebody else closed the descriptor, whose number may be another's by now."""
        self._pause()
        self._closed = True
        self._sock.detach()
        self._engine.errors["accept"] += 1
        dispatch.logger.error(
            "listener %d is given up: something in this process closed its descriptor", self._fd
        )

    def abandon(self) -> None:
        """Close the descriptor, in a fork of the process that listens."""
        self._sock.close()

    def _pause(self) -> None:
        self._engine.forget_listener(self, self._fd)

    def _rest(self, exc: Exception) -> None:
        """Stop asking for a while: the kernel would answer the same at full speed."""
        engine = self._engine
        engine.errors["accept"] += 1
        if not self._failing:
            dispatch.logger.warning(
                "accept failed (%s): trying again every %g s", exc, engine.limits.accept_pause
            )
        self._resting = self._failing = True
        self._pause()
        engine.alarm(engine.limits.accept_pause, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self.resume()

    def _look_again(self) -> None:
        """Somebody else may have taken the client that waited."""
        if self._engine.balance is not None and not self._closed and not _has_client(self._sock):
            self._engine.balance.nobody_waits()
        self._rested()

    def go_on(self) -> None:
        if not (self._closed or self._resting or self._full):
            self.on_event()


def _has_client(sock: socket.socket) -> bool:
    """Whether somebody waits to be accepted."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
