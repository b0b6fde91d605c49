"""Server and serve(): listeners, an engine, and their life.

::

    created ── start() or run() ──► running ── stop() ──► stopping ──► ended
               opens the listeners     │      closes them; queued bytes are sent
                                       └── drain() ──► draining ── stop() ──► …
                                               clients finish before that

Everything that can be refused is refused before a listener is opened: the service, the engine, its
capabilities, the addresses.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Self

from muxcore import _at_exit, _demands
from muxcore._chosen import engine_for
from muxcore._demands import Services, Where
from muxcore._running import Running
from muxcore.address import Address
from muxcore.limits import Limits, seconds
from muxcore.parts import dispatch, logs, sockets
from muxcore.protocol import Handle, Service
from muxcore.stats import Stats


class Server(Running):
    """A service on some addresses, by an engine of one's choice.

    Used as a context manager it runs in the background::

        with muxcore.Server(muxcore.Echo, "[::1]:0") as server:
            print(server.addresses)

    Args:
        service: a zero-argument callable that returns a protocol: a class, or a service object. Its
            attributes ``requires``, capabilities of the engine, and ``limits``, a mapping of fields
            of ``Limits`` to values that are laid over those given here, are respected if present.
            A service object's ``server_started(server)`` is called in the engine's thread once it
            listens, on engines with ``threadsafe_calls``; ``server_ended()`` by whoever waited for
            the end. Or a mapping of addresses and bound sockets to services, as in
            ``{"[::1]:9000": Echo, "unix:/run/app.sock": Other}``: then the server is all of theirs,
            and their limits must not contradict one another.
        where: addresses as in ``muxcore.address.parse``, or bound sockets; several are served at
            once. Nothing beside a mapping, which says it. A unix socket gets the permissions that
            the umask leaves, or those that an ``Address`` has, and is removed at the end if it is
            still the one that was bound.
            ``"fd:NAME"`` are the sockets of that name that a supervisor has passed to this process
            (systemd's .socket units), which stay the supervisor's, too. A bound socket is the
            server's from its start on: the caller's object is closed then, and the path of a unix
            one stays. A server that is never started, or whose start fails, leaves the socket to
            the caller.
        engine: an engine's name, a model's or a selector; None means ``MUXCORE_ENGINE``, then
            "auto".
        limits: the caps; the defaults suit a public port.
        trigger: "level", or "edge" on engines with ``edge_trigger``.
        reuse_port: let several processes listen on one port (SO_REUSEPORT, Linux 3.9).
        allow_threads: let an engine that forks start beside running threads.
        workers: processes that serve, each with an engine of its own: a number, or "auto", one for
            each core that this process may use. The server itself is their parent then: it keeps
            the listening sockets, replaces a worker that dies, and serves nobody. None: no workers,
            it serves itself. The service crosses as a name that is imported, or pickled: see
            docs/workers.md.
        worker_setup: called in each worker before it serves, to set up its logging, say: a function
            that can be imported.
        balance: of clients over workers. "kernel": it gives each to a worker by chance. "exact":
            all workers share one queue, and one with more clients than another leaves it to that.

    Attributes:
        addresses: where it listens, once it does.
        services: what it serves; each once.
        on_drain, on_reload: lists of calls with the server; see ``Life``.

    Raises:
        ServiceError: the service is not callable, has coroutines for callbacks, or brings limits
            that are no mapping, do not exist, or contradict those of another
            one; or workers cannot be told of it.
        UnknownEngine, EngineUnavailable: see ``muxcore.engine``.
        CapabilityMissing: the engine lacks what the service ``requires``, or the edge trigger; or
            several workers do not share what it requires.
        AddressError: an address is malformed.
        TypeError: there is no address; or there are some beside a mapping.
        ValueError: so many workers there cannot be, or the balance is unknown; or what is for
            workers is given without any; or an address is given to two services.
    """

    def __init__(
        self,
        service: Services,
        *where: Where,
        engine: str | None = None,
        limits: Limits | None = None,
        trigger: str = "level",
        reuse_port: bool = False,
        allow_threads: bool = False,
        workers: int | str | None = None,
        worker_setup: Callable[[], object] | None = None,
        balance: str = "kernel",
    ) -> None:
        served = _demands.served(service, where)
        engine_ = engine_for(
            self._make,
            _demands.distinct(each for _, each in served),
            engine,
            limits or Limits(),
            trigger,
            allow_threads,
            workers=workers,
            setup=worker_setup,
            balance=balance,
        )
        shares = workers is not None and balance == "kernel"
        super().__init__(engine_, served, reuse_port or shares, shares and not reuse_port)
        engine_.server = self

    @property
    def _make(self) -> Callable[..., Any]:
        """What makes the server of a worker."""
        return Server

    # -- what it is and does

    @property
    def engine(self) -> str:
        """The name of the engine that was chosen."""
        return self._engine.name

    @property
    def workers(self) -> int:
        """How many processes serve for this one, which is their parent; 0: it serves itself."""
        return self._engine.count

    def set_workers(self, workers: int) -> None:
        """Have so many workers from now on; from any thread. It does not wait.

        One that is too many drains, and its listening sockets are served by another one, so that
        nobody waits there for nobody. Who serves already keeps its share of ``Limits.connections``.

        Raises:
            ValueError: there cannot be so many: at the most twice as many as at first, or 8 more.
            RuntimeError: there are none.
        """
        self._engine.resize(workers)

    @property
    def capabilities(self) -> frozenset[str]:
        return self._engine.capabilities

    @property
    def failed(self) -> BaseException | None:
        """What ended the engine, where that was an error: nobody is served any more. Else None."""
        return self._why_failed()

    def stats(self) -> Stats:
        """Return a snapshot of the counters; from any thread, also after the end."""
        return self._engine.stats()

    def adopt(self, sock: socket.socket, service: Service | None = None) -> None:
        """Serve a connected socket; from any thread.

        The connection is the server's from now on: the object ``sock`` itself is closed by this.

        Args:
            sock: a connected stream socket; beyond ``Limits.connections`` it is closed, and logged.
            service: None means the server's own, where it has one.

        Raises:
            CapabilityMissing: the engine has no ``adopt``.
            TypeError, ValueError: this is no open stream socket; or the server has several
                services, and none is given.
            ServiceError: the service cannot be one.
            RuntimeError: the server has ended, has ``Limits.callbacks`` calls queued, or is another
                process's. However it is refused, the socket stays the caller's, as it was.
        """
        self._engine.need("adopt")
        self._refuse_copy("adopt()")
        if service is None:
            if len(self.services) > 1:
                raise TypeError("adopt() needs a service: this server has several")
            service = self.services[0]
        else:
            dispatch.check_service(service)
        sockets.check_adopted(sock)
        self._engine.adopt(sock, service)

    def connect(
        self, where: str | int | Address, service: Service, timeout: float | None = None
    ) -> Handle:
        """Open a connection and serve it; see ``Engine.connect``.

        For callbacks; also before the start, from any thread: then it begins with the server.

        Raises:
            RuntimeError: this is not the engine's thread, or the server has ended.
        """
        self._engine.need("connect")
        self._refuse_others("server.connect()")
        return self._engine.connect(where, service, timeout)

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        """Run ``call(*args)`` in ``delay`` seconds; for callbacks, as :meth:`connect` is.

        Raises:
            TypeError, ValueError: the delay is no time.
            RuntimeError: this is not the engine's thread, the server has ended, or
                ``Limits.timers`` are pending.
        """
        self._engine.need("timers")
        self._refuse_others("server.call_later()")
        return self._engine.call_later(delay, call, *args)

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` in the engine's thread soon; from any thread or signal handler.

        Raises:
            RuntimeError: the server has ended, has ``Limits.callbacks`` calls queued, or is another
                process's.
        """
        self._engine.need("threadsafe_calls")
        self._refuse_copy("call_soon_threadsafe()")
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
            self._ended()
            self._engine.close()
            raise
        self._hook = _at_exit.stop(self)
        return self

    def stop(self) -> bool:
        """Stop accepting, send what is queued for ``Limits.stop_timeout``, and wait for the end.

        From any thread, whether it serves in the background or in :meth:`run`; in a callback it
        asks, and does not wait. In a forked child it does nothing but say so in the log.

        Returns:
            Whether every connection had sent all its bytes when it was closed, and none had to be
            ended by a drain; a forked child: no.

        Raises:
            TimeoutError: the engine did not end; a callback is blocking it.
            BaseException: what ended the engine earlier, if that was an error that :meth:`run` has
                not raised.
        """
        if self._does_nothing("stop()"):
            return False
        self.request_stop()
        self._end_unstarted()
        return self._drained if self._cannot_wait() else self._stopped()

    def request_stop(self) -> None:
        """Ask for the end, not waiting; from any thread, in callbacks and in signal handlers."""
        if not self._is_copy():
            self._phases.ask_stop()
            self._engine.stop()

    def drain(self, timeout: float | None = None) -> bool:
        """Let clients finish, and wait for the end, as SIGTERM does while :meth:`run` serves.

        ``ready`` is false from now on; ``Limits`` has the rest: for ``drain_delay`` clients are
        still accepted; then they have their time; who is here after that is ended with
        ``Stopped``. A :meth:`stop` cuts it short. Where it may be called, and waits, is as of
        :meth:`stop`. An engine of others that cannot drain stops.

        Args:
            timeout: seconds that they have, of the first call; None means ``Limits.drain_timeout``.

        Returns:
            Whether all of them finished by themselves, or were idle; a forked child: no.

        Raises:
            TypeError, ValueError: the timeout is no time.
            TimeoutError, BaseException: see :meth:`stop`.
        """
        if self._does_nothing("drain()"):
            return False
        self.request_drain(timeout)
        self._end_unstarted()
        if self._cannot_wait():
            return self._drained
        # else it does not end: a callback blocks it
        return self._joined() if self._has_drained() else self.stop()

    def request_drain(self, timeout: float | None = None) -> None:
        """Ask for a drain, not waiting; from where :meth:`request_stop` may be called.

        Raises:
            TypeError, ValueError: see :meth:`drain`.
        """
        if timeout is not None:
            timeout = seconds("drain()", timeout)
        if not self._is_copy():
            self._phases.ask(timeout)
            self._engine.drain(timeout)

    @property
    def ready(self) -> bool:
        """Whether it listens and goes on to: false from the moment that its end is asked for."""
        return self._is_ready()

    def reload(self) -> None:
        """Open the logs again, and call each of ``on_reload``, as SIGHUP does; from any thread.

        It does not wait: the engine's thread does it, between two turns; an error is logged.
        Workers do the same with hooks of their own.
        """
        self._engine.tell_workers("reload")
        self._engine.call_from_signal(self._reload)

    def reopen_logs(self) -> None:
        """Open again the log files that were moved away, as SIGUSR1 does; see :meth:`reload`.

        They are those of each ``logging.handlers.WatchedFileHandler`` of the root logger,
        ``muxcore`` and ``muxcore.access``.
        """
        self._engine.tell_workers("reopen")
        self._engine.call_from_signal(logs.reopen)

    def restart(self) -> None:
        """Start the program anew, and drain once that serves on the same sockets, as SIGUSR2 does.

        From any thread, while :meth:`run` serves in the main thread; it does not wait. A successor
        that fails, or is not ready within ``Limits.restart_timeout``, is a line in the log, and
        this server goes on: see docs/restarting.md.

        Raises:
            RuntimeError: it does not serve there, or is another process's.
        """
        self._refuse_copy("restart()")
        self._ask_restart("restart()")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if not self._is_copy():
            self.stop()

    # -- in this thread

    def run(
        self,
        on_ready: Callable[[Server], object] | None = None,
        *,
        pidfile: str | os.PathLike[str] | None = None,
    ) -> int:
        """Serve in this thread until ``stop``, ``drain``, SIGINT or SIGTERM.

        SIGTERM drains, SIGINT stops. A second signal ends the waiting for clients, and a third one
        the process, even while a callback does not return. SIGHUP calls :meth:`reload`, or drains
        where it tells that the controlling terminal was closed; SIGUSR1 calls :meth:`reopen_logs`,
        SIGUSR2 :meth:`restart`: these three only where the program left them their default. Signals
        are handled where Python allows it, in the main thread; the handlers that were there before
        are put back.

        As the first process of a container, it does not return after a restart: it executes the
        program that has taken over.

        Args:
            on_ready: called with the server once it listens.
            pidfile: a file that is to have this process's number from then on, and is removed at
                the end if it has that still. A number that stands in it is overwritten.

        Returns:
            What a script would exit with: 0 after a stop in which all was sent, or a drain in which
            all clients finished; 1 where some had to be cut short; 130 after SIGINT, 128 + the
            signal's number after an abort.

        Raises:
            BindError, RuntimeError: see :meth:`start`.
            PidfileError: the file cannot be written, or is another kind of file.
        """
        return self._run(on_ready, pidfile)

    # -- in somebody else's loop

    async def run_async(self, on_ready: Callable[[Server], object] | None = None) -> bool:
        """Serve in the event loop that awaits this: asyncio's, uvloop's or trio's.

        The callbacks run in that loop, beside its tasks. ``stop`` ends it, in a callback, a task or
        another thread; so does a cancel, which lets clients finish as ``stop`` does. On asyncio a
        second cancel aborts; one by a cancel scope of anyio's comes again and again there, so it
        aborts at once. Signals are the host's affair.

        Args:
            on_ready: called with the server once it listens.

        Returns:
            Whether every connection had sent all its bytes when it was closed.

        Raises:
            CapabilityMissing: the engine cannot be a ``guest``: see ``muxcore engines``.
            BindError, RuntimeError: see :meth:`start`; or no event loop runs.
        """
        self._engine.need("guest")
        return await self._run_as_guest(on_ready)
