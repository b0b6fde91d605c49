"""A server's life, beneath what a program calls: it is opened, waited for, and over.

It belongs to the process that started it. A forked child has a copy of the object and of every
descriptor, and how it ends is its own affair: what it does with them stops no server.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from threading import get_ident
from time import monotonic
from typing import Any

from muxcore import _demands, address
from muxcore._phases import Phases
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.parts import dispatch, logs, opening
from muxcore.protocol import Service
from muxcore.restarting import handed
from muxcore.restarting.predecessor import predecessor
from muxcore.restarting.successor import Restart

_JOIN_MARGIN = 5.0  # s beyond stop_timeout before stop() calls an engine hung


class Life:
    """What ``Server`` is and does, but for what a program calls.

    Attributes:
        addresses: where it listens, once it does.
        services: what it serves; each once.
        on_drain: each is called with the server, in the engine's thread, once its end begins: a
            drain, or a stop without one. In the process model, when that is asked for.
        on_reload: each is called with the server by ``reload()``.
    """

    def __init__(
        self,
        engine: Engine,
        where: list[tuple[socket.socket | Address, Service]],
        reuse_port: bool,
        alone: bool,
    ) -> None:
        self._engine = engine
        self.services = _demands.distinct(service for _, service in where)
        self._where = where
        self._reuse_port = reuse_port
        self._alone = alone  # the port is shared by processes of its own alone
        self._listening: list[tuple[str, socket.socket]] = []  # as it was given, or "", and opened
        self._restart: Restart | None = None  # while run() serves in the main thread
        self._state = "created"
        self._drained = True
        self._runner: int | None = None  # ident of the thread in run()
        self._over = threading.Event()  # run() is
        self._failure: BaseException | None = None  # what run() has raised
        self._hook: Callable[[], None] | None = None
        self.addresses: list[str] = []
        self.on_drain: list[Callable[[Any], object]] = []
        self.on_reload: list[Callable[[Any], object]] = []
        self._phases = Phases(engine, lambda: self._tell(self.on_drain))

    def __del__(self) -> None:
        """Release what a server that was never started holds."""
        if getattr(self, "_state", "") == "created" and not sys.is_finalizing():
            self._engine.close()

    def _tell(self, hooks: list[Callable[[Any], object]]) -> None:
        for call in list(hooks):
            dispatch.run_call(call, (self,))

    def _open(self) -> None:
        """Open every listener, or none."""
        if self._state != "created":
            raise RuntimeError(f"this server is {self._state}: make a new one")
        self._engine.settle()
        listeners: dict[socket.socket, int] = {}
        limits = self._engine.limits
        try:
            wheres = [where for where, _ in self._where]
            listeners = opening.open_all(
                wheres,
                limits,
                reuse_port=self._reuse_port,
                alone=self._alone,
                left=predecessor,
            )
            for sock in list(listeners):
                where, service = self._where[listeners.pop(sock)]
                self.addresses.append(address.of_socket(sock))
                given = "" if isinstance(where, socket.socket) else str(where)
                self._listening.append((given, sock))
                self._engine.listen(sock, service)
                self._listen_beside(sock, service)
            self._tell_started()
        except BaseException as exc:
            for sock in listeners:
                opening.close_listener(sock)
            self._engine.close()
            self._ended()
            predecessor.failed(exc)
            raise
        handed.add(self)
        self._state = "running"

    def _listen_beside(self, sock: socket.socket, service: Service) -> None:
        """Serve whoever waits in what a predecessor had bound beside a socket, for workers."""
        while (other := predecessor.beside(sock)) is not None:
            opening.listen_on(other, self._engine.limits)
            self._listening.append(("", other))
            self._engine.listen(other, service)

    def _listeners(self) -> Iterator[tuple[str, socket.socket]]:
        """Yield each address as it was given, or "", with a socket that listens there."""
        yield from self._listening
        for sock in self._engine.beside():
            yield "", sock

    def _hand_over(self, heir: int) -> None:
        """Drain, since another process has taken over; no delay: it accepts from the same sockets.

        Args:
            heir: its pid.
        """
        self._engine.skip_delay()
        self._phases.ask(None, heir=heir)
        self._engine.drain(None)

    def _tell_started(self) -> None:
        """Let a service object hear that it serves; a class of protocols is told nothing."""
        if "threadsafe_calls" not in self._engine.capabilities:
            return
        for service in self.services:
            if (started := dispatch.hook_of(service, "server_started")) is not None:
                self._engine.call_soon_threadsafe(started, self)

    def _tell_ended(self) -> None:
        """Let service objects hear that they serve no more, in whatever thread waits for that."""
        for service in self.services:
            if (ended := dispatch.hook_of(service, "server_ended")) is not None:
                dispatch.run_call(ended, ())

    def _listen_also(self, sock: socket.socket, which: int) -> None:
        """Serve one more listening socket, while it runs; from signal handlers.

        Args:
            sock: it.
            which: the number of its service.
        """
        sock.setblocking(False)
        given = (sock, self.services[which])
        self._engine.call_from_signal(lambda: dispatch.run_call(self._engine.listen_also, given))

    def _reload(self) -> None:
        """Do what ``reload()`` does in this process, between two turns."""
        logs.reopen()
        self._tell(self.on_reload)

    def _renew(self, news: bytes) -> None:
        """Let workers have what has changed in service objects; those that come later as well.

        Args:
            news: for ``renewed(news)`` of each service object in the workers that there are.
        """
        self._engine.renew(news)

    def _is_ready(self) -> bool:
        """Whether it listens and goes on to."""
        engine = self._engine
        ends = self._phases.asked or engine.draining or engine.ending
        return self._state == "running" and not ends and self._why_failed() is None

    def _why_failed(self) -> BaseException | None:
        return self._failure or self._engine.failure

    def _join(self, timeout: float | None) -> bool:
        """Wait for the end of the engine; return whether it came."""
        if self._runner is None:
            return self._engine.join(timeout)
        return self._over.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))

    def _stopped(self) -> bool:
        """A stop was asked for: wait for it; see ``Server.stop``."""
        limit = self._engine.limits.stop_timeout + _JOIN_MARGIN
        if not self._join(limit):
            self._engine.abort()
            if not self._join(_JOIN_MARGIN):
                raise TimeoutError(
                    f"engine {self._engine.name!r} did not end within {limit + _JOIN_MARGIN:g} s: "
                    "a callback is blocking its thread"
                )
        return self._joined()

    def _has_drained(self) -> bool:
        """A drain was asked for: wait for it; return whether it has ended."""
        until = self._phases.until
        return self._join(None if until is None else max(0.0, until - monotonic()) + _JOIN_MARGIN)

    def _joined(self) -> bool:
        """It has ended: return whether every client had finished."""
        if self._runner is None:
            self._drained = self._engine.drained
            self._ended()
        return self._drained

    def _cannot_wait(self) -> bool:
        """Whether nothing is to be waited for, or by this thread."""
        return self._state != "running" or get_ident() in (self._engine.owner, self._runner)

    def _end_unstarted(self) -> None:
        if self._state == "created":
            self._engine.close()
            self._ended()

    def _is_copy(self) -> bool:
        """Whether this is a forked child, and the server its parent's."""
        return self._state != "created" and self._engine.is_copy()

    def _refuse_copy(self, what: str) -> None:
        if self._is_copy():
            raise RuntimeError(
                f"{what} in process {os.getpid()}: the server belongs to process "
                f"{self._engine.process.pid}, of which this is a fork; make a server in the child"
            )

    def _refuse_others(self, what: str) -> None:
        """Refuse what is for callbacks in another thread, or a forked process."""
        self._refuse_copy(what)
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread(what)

    def _does_nothing(self, what: str) -> bool:
        """Whether this is a forked child, which asks for no end; it is logged."""
        if not self._is_copy():
            return False
        text = "%s does nothing: the server belongs to process %d, of which this is a fork"
        dispatch.logger.warning(text, what, self._engine.process.pid)
        return True

    def _ended(self) -> None:
        if self._state == "running":
            self._phases.ended()
            self._tell_ended()
        self._state = "ended"
        self._over.set()
        if self._hook is not None:
            atexit.unregister(self._hook)
            self._hook = None
