"""Server and serve(): listeners, an engine, and their life.

::

    created ── start() or run() ──► running ── stop() ──► draining ──► ended
               opens the listeners            closes them; queued bytes are sent

Everything that can be refused is refused before a listener is opened: the service, the engine, its
capabilities, the addresses.
"""

from __future__ import annotations

import atexit
import dataclasses
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from muxcore import accepting, address, dispatch, registry
from muxcore.address import Address
from muxcore.engine import Engine
from muxcore.errors import ServiceError
from muxcore.limits import Limits
from muxcore.protocol import Service
from muxcore.stats import Stats
from muxcore.timers import Timer
from muxcore.wakeup import StopSignals

_JOIN_MARGIN = 5.0  # s beyond drain_timeout before stop() calls an engine hung


class Server:
    """A service on some addresses, by an engine of one's choice.

    Used as a context manager it runs in the background::

        with muxcore.Server(muxcore.Echo, "[::1]:0") as server:
            print(server.addresses)

    Args:
        service: a zero-argument callable that returns a protocol: a class, or a service object. Its
            attributes ``requires``, capabilities of the engine, and ``limits``, a mapping of fields
            of ``Limits`` to values that are laid over those given here, are respected if present.
        where: addresses as in ``muxcore.address.parse``, or bound sockets; several are served at
            once.
        engine: an engine's name, a model's or a selector; None means ``MUXCORE_ENGINE``, then
            "auto".
        limits: the caps; the defaults suit a public port.
        trigger: "level", or "edge" on engines with ``edge_trigger``.
        reuse_port: let several processes listen on one port (SO_REUSEPORT, Linux 3.9).
        allow_threads: let an engine that forks start beside running threads.

    Raises:
        ServiceError: the service is not callable, or brings a limit that does not exist.
        UnknownEngine, EngineUnavailable: see ``muxcore.engine``.
        CapabilityMissing: the engine lacks what the service ``requires``, or the edge trigger.
        AddressError: an address is malformed.
    """

    def __init__(
        self,
        service: Service,
        *where: str | int | Address | socket.socket,
        engine: str | None = None,
        limits: Limits | None = None,
        trigger: str = "level",
        reuse_port: bool = False,
        allow_threads: bool = False,
    ) -> None:
        dispatch.check_service(service)
        if not where:
            raise TypeError("Server needs at least one address, such as '127.0.0.1:9000'")
        chosen = registry.engine(engine)
        registry.check_requirements(service, chosen)
        self._service = service
        self._where = [w if isinstance(w, socket.socket) else address.parse(w) for w in where]
        self._reuse_port = reuse_port
        limits = _limits_with(service, limits or Limits())
        self._engine: Engine = chosen(limits, trigger=trigger, allow_threads=allow_threads)
        self._engine.server = self
        self._state = "created"
        self._hook: Callable[[], None] | None = None
        self.addresses: list[str] = []

    # -- what it is and does

    @property
    def engine(self) -> str:
        """The name of the engine that was chosen."""
        return self._engine.name

    @property
    def capabilities(self) -> frozenset[str]:
        return self._engine.capabilities

    def stats(self) -> Stats:
        """Return a snapshot of the counters; from any thread, also after the end."""
        return self._engine.stats()

    def adopt(self, sock: socket.socket, service: Service | None = None) -> None:
        """Serve a connected socket, which belongs to the server from now on; from any thread.

        Args:
            sock: a connected stream socket.
            service: None means the server's own.

        Raises:
            CapabilityMissing: the engine has no ``adopt``.
            RuntimeError: the server has ended; the socket stays the caller's.
        """
        self._engine.need("adopt")
        self._engine.adopt(sock, service or self._service)

    def connect(
        self, where: str | int | Address, service: Service, timeout: float | None = None
    ) -> Any:
        """Open a connection and serve it; callable in callbacks. See ``Engine.connect``."""
        self._engine.need("connect")
        return self._engine.connect(where, service, timeout)

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Run ``call(*args)`` in ``delay`` seconds; callable in callbacks. Returns a ``Timer``."""
        self._engine.need("timers")
        return self._engine.call_later(delay, call, *args)

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` in the engine's thread soon; from any thread or signal handler."""
        self._engine.need("threadsafe_calls")
        self._engine.call_soon_threadsafe(call, *args)

    # -- in the background

    def start(self) -> Self:
        """Open the listeners and serve in the background.

        Raises:
            BindError: an address cannot be listened on; nothing stays open.
            RuntimeError: it was started before.
        """
        self._open()
        try:
            self._engine.start()
        except BaseException:
            self._state = "ended"
            self._engine.close()
            raise
        self._hook = _stop_at_exit(self)
        return self

    def stop(self) -> bool:
        """Stop accepting, send what is queued for ``Limits.drain_timeout``, and wait for the end.

        Returns:
            Whether every connection had sent all its bytes when it was closed.

        Raises:
            TimeoutError: the engine did not end; a callback is blocking it.
            BaseException: what ended the engine earlier, if that was an error.
        """
        self.request_stop()
        if self._state == "created":
            self._engine.close()
            self._state = "ended"
        if self._state != "running" or self._in_engine():
            return self._engine.drained
        limit = self._engine.limits.drain_timeout + _JOIN_MARGIN
        if not self._engine.join(limit):
            self._engine.abort()
            if not self._engine.join(_JOIN_MARGIN):
                raise TimeoutError(
                    f"engine {self._engine.name!r} did not end within {limit + _JOIN_MARGIN:g} s: "
                    "a callback is blocking its thread"
                )
        self._ended()
        return self._engine.drained

    def request_stop(self) -> None:
        """Ask for the end and do not wait; from any thread, in callbacks and in signal handlers."""
        self._engine.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- in this thread

    def run(self, on_ready: Callable[[Server], object] | None = None) -> int:
        """Serve in this thread until ``request_stop``, SIGINT or SIGTERM; a second signal aborts.

        Signals are handled where Python allows it, in the main thread; the handlers that were there
        before are put back.

        Args:
            on_ready: called with the server once it listens.

        Returns:
            What a script would exit with: 0 after ``request_stop`` or SIGTERM and a complete drain,
            130 after SIGINT, 128 + the signal's number after an abort, 1 where the drain was cut
            short.

        Raises:
            BindError, RuntimeError: see :meth:`start`.
        """
        self._open()
        with StopSignals(
            self._engine.signal_fileno(), self._engine.stop, self._engine.abort
        ) as signals:
            try:
                if on_ready is not None:
                    on_ready(self)
                drained = self._engine.run()
            finally:
                self._engine.close()
                self._ended()
        if len(signals.received) > 1:
            return 128 + signals.received[-1]
        if signals.received == [signal.SIGINT]:
            return 128 + signal.SIGINT
        return 0 if drained else 1

    # -- small things

    def _open(self) -> None:
        """Open every listener, or none."""
        if self._state != "created":
            raise RuntimeError(f"this server is {self._state}: make a new one")
        listeners: list[socket.socket] = []
        limits = self._engine.limits
        try:
            for where in self._where:
                opened = accepting.open_listeners(where, limits, reuse_port=self._reuse_port)
                listeners += opened
            while listeners:
                self.addresses.append(address.of_socket(listeners[0]))
                self._engine.listen(listeners.pop(0), self._service)
        except BaseException:
            for sock in listeners:
                accepting.close_listener(sock)
            self._engine.close()
            self._ended()
            raise
        self._state = "running"

    def _in_engine(self) -> bool:
        """Whether this is a callback: waiting for the end here would never end."""
        return threading.current_thread() is self._engine.thread

    def _ended(self) -> None:
        self._state = "ended"
        if self._hook is not None:
            atexit.unregister(self._hook)
            self._hook = None


def serve(
    service: Service,
    *where: str | int | Address | socket.socket,
    engine: str | None = None,
    limits: Limits | None = None,
    trigger: str = "level",
    reuse_port: bool = False,
    allow_threads: bool = False,
    on_ready: Callable[[Server], object] | None = None,
) -> int:
    """Serve until Ctrl-C or SIGTERM; arguments as in ``Server``, result as in ``run``."""
    server = Server(
        service,
        *where,
        engine=engine,
        limits=limits,
        trigger=trigger,
        reuse_port=reuse_port,
        allow_threads=allow_threads,
    )
    return server.run(on_ready)


def _limits_with(service: Service, limits: Limits) -> Limits:
    """Lay what a service brings over the limits."""
    brought = getattr(service, "limits", None)
    if not isinstance(brought, Mapping):
        return limits
    try:
        return dataclasses.replace(limits, **brought)
    except (TypeError, ValueError) as exc:
        name = dispatch.describe(service)
        raise ServiceError(f"service {name} brings limits that cannot be: {exc}") from exc


def _stop_at_exit(server: Server) -> Callable[[], None]:
    """Stop a background server when the interpreter ends, unless it was forgotten before."""
    reference = weakref.ref(server)

    def stop() -> None:
        still_there = reference()
        if still_there is not None:
            try:
                still_there.stop()
            except Exception as exc:
                dispatch.logger.error("a server did not stop at exit", exc_info=exc)

    atexit.register(stop)
    return stop
