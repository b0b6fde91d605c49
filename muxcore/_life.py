"""A server's life, beneath what a program calls: it is opened, waited for, and over.

It belongs to the process that started it: a fork has a copy of the object, and stops no server.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

from muxcore import address
from muxcore._phases import Phases
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.parts import dispatch, opening
from muxcore.protocol import Service


class Life:
    """What ``Server`` is and does, but for what a program calls.

    Attributes:
        addresses: where it listens, once it does.
        on_drain: each is called with the server, in the engine's thread, once its end begins: a
            drain, or a stop without one. In the process model, when that is asked for.
        on_reload: each is called with the server by ``reload()``.
    """

    def __init__(
        self,
        engine: Engine,
        service: Service,
        where: list[socket.socket | Address],
        reuse_port: bool,
    ) -> None:
        self._engine = engine
        self._service = service
        self._where = where
        self._reuse_port = reuse_port
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

    def _tell(self, hooks: list[Callable[[Any], object]]) -> None:
        for call in list(hooks):
            dispatch.run_call(call, (self,))

    def _open(self) -> None:
        """Open every listener, or none."""
        if self._state != "created":
            raise RuntimeError(f"this server is {self._state}: make a new one")
        self._engine.settle()
        listeners: list[socket.socket] = []
        try:
            listeners = opening.open_all(
                self._where, self._engine.limits, reuse_port=self._reuse_port
            )
            while listeners:
                self.addresses.append(address.of_socket(listeners[0]))
                self._engine.listen(listeners.pop(0), self._service)
            self._tell_started()
        except BaseException:
            for sock in listeners:
                opening.close_listener(sock)
            self._engine.close()
            self._ended()
            raise
        self._state = "running"

    def _tell_started(self) -> None:
        """Let a service object hear that it serves; a class of protocols is told nothing."""
        if isinstance(self._service, type) or not hasattr(self._service, "server_started"):
            return
        if "threadsafe_calls" in self._engine.capabilities:
            self._engine.call_soon_threadsafe(self._service.server_started, self)

    def _listen_also(self, sock: socket.socket) -> None:
        """Serve one more listening socket, while it runs; from signal handlers."""
        sock.setblocking(False)
        given = (sock, self._service)
        self._engine.call_from_signal(lambda: dispatch.run_call(self._engine.listen_also, given))

    def _join(self, timeout: float | None) -> bool:
        """Wait for the end of the engine; return whether it came."""
        if self._runner is None:
            return self._engine.join(timeout)
        return self._over.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))

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
        self._state = "ended"
        self._over.set()
        if self._hook is not None:
            atexit.unregister(self._hook)
            self._hook = None
