"""The life of an admin service: it begins once its server serves, and outlives its drain."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import socket as sockets
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Self

import muxcore.aio as mux
from muxcore import address, registry
from muxcore._near import near
from muxcore.abc import logger
from muxcore.admin import agent, answering, finding
from muxcore.admin.front import Front
from muxcore.admin.operations import Operations
from muxcore.admin.peers import LIMIT, Peer
from muxcore.errors import CapabilityMissing
from muxcore.server import Server

# Who asks has one request a connection; a balancer and two scrapers have three.
_LIMITS = mux.Limits(connections=64, idle_timeout=60.0, drain_timeout=LIMIT)
_END = 10.0  # s for it to end: what it waits for has limits below that


class Admin:
    """An admin service for one server, in a thread of its own.

    It is started once the server serves, with ``start()`` or as a context manager, and stopped
    after it. While the server drains it goes on; where another process has taken over it ends.

    Args:
        server: whom it is for; with workers, their parent.
        socket: where everything is to be had: a unix socket, such as "unix:/run/relay.admin". It
            gets the mode 0600: who may connect may kill.
        metrics: where anybody may read ``/metrics``, ``/livez`` and ``/readyz``: an address.
        agent: where HAProxy's agent-check is answered: an address.
        config: returns the text that the server was configured with, for ``/config``.
        ready_needs: names of pools: ``/readyz`` is 200 only while of each of them a client may have
            an upstream: one is neither failing nor out. None by default: see docs/admin.md.

    Attributes:
        addresses: where it listens, once it does, by the names of these arguments.

    Raises:
        TypeError: it would listen nowhere.
        ValueError: ``socket`` is no path of a unix socket; ``ready_needs`` names a pool that there
            is not, or nothing answers ``/readyz``.
        AddressError: an address is malformed.
        CapabilityMissing: the server's engine forks, and has no state that could be shown.
    """

    def __init__(
        self,
        server: Server,
        *,
        socket: str | None = None,
        metrics: str | int | None = None,
        agent: str | int | None = None,
        config: Callable[[], str] | None = None,
        ready_needs: Iterable[str] = (),
    ) -> None:
        if socket is None and metrics is None and agent is None:
            raise TypeError("Admin(server): say where it listens: socket, metrics or agent")
        if "shared_state" not in registry.engine(server.engine).capabilities:
            raise CapabilityMissing(
                f"engine {server.engine!r} has a process for each client, and nothing that an "
                "admin service could show or change: take another engine, such as 'pure-epoll'"
            )
        self._where: dict[str, Any] = {}
        if socket is not None:
            where = address.parse(socket, listen=True)
            if not where.path:
                raise ValueError(
                    f"Admin(socket=…): socket must be a path, such as unix:/run/relay.admin, not "
                    f"{socket!r}: whoever can connect can kill and change"
                )
            self._where["socket"] = dataclasses.replace(where, mode=0o600)
        for name, given in (("metrics", metrics), ("agent", agent)):
            if given is not None:
                self._where[name] = address.parse(given, listen=True)
        self._needs = _checked_needs(server, ready_needs)
        if self._needs and socket is None and metrics is None:
            raise ValueError(
                "Admin(ready_needs=…): ready_needs is about /readyz: give metrics or socket, where "
                "it is answered"
            )
        self.addresses: dict[str, str] = {}
        self._server = server
        self._config = config
        self._operations = Operations(server)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: asyncio.Event
        self._ready = threading.Event()
        self._why: BaseException | None = None
        self._began = monotonic()
        self._drained_at: float | None = None

    # -- its life

    def start(self) -> Self:
        """Begin; returns once it listens.

        Raises:
            BindError: an address cannot be listened on.
            RuntimeError: it was started before.
        """
        if self._thread is not None:
            raise RuntimeError("this admin service was started before: make a new one")
        self._thread = threading.Thread(target=self._run, name="muxcore admin", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._why is not None:
            self._thread.join()
            raise self._why
        assert self._loop is not None
        self._find_peers(self._loop)
        self._server.on_drain.append(self._end_begins)
        return self

    def stop(self) -> None:
        """End, and wait for that; harmless when it has ended, or never began."""
        with contextlib.suppress(ValueError):
            self._server.on_drain.remove(self._end_begins)
        self._ask_end()
        if self._thread is not None:
            self._thread.join(_END)
            if self._thread.is_alive():
                logger.error("the admin service has not ended within %g s", _END)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _end_begins(self, server: Any) -> None:
        """The server ends; where another process has taken over, that one answers from now on."""
        self._drained_at = monotonic()
        if server._phases.heir:
            self._ask_end()

    def _ask_end(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ends.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:
            if self._ready.is_set():
                logger.critical("the admin service has ended by an error", exc_info=exc)
            else:
                self._why = exc
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._ends = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        operations = self._operations
        front = functools.partial(Front, operations, self._config, needs=self._needs)
        handlers: dict[str, Callable[[mux.Connection], Any]] = {
            "socket": front(all_of_it=True),
            "metrics": front(all_of_it=False),
            "agent": self._answer_agent,
        }
        servers: list[mux.Server] = []
        async with contextlib.AsyncExitStack() as stack:
            for name, where in self._where.items():
                server = mux.serve(handlers[name], where, engine="pure-epoll", limits=_LIMITS)
                servers.append(await stack.enter_async_context(server))
                self.addresses[name] = server.addresses[0]
            asking = asyncio.create_task(operations.keep_asking()) if self._server.workers else None
            try:
                self._ready.set()
                await self._ends.wait()
                await asyncio.gather(*(each.drain() for each in servers))  # who asks has an answer
            finally:
                if asking is not None:
                    asking.cancel()
                self._server._engine.tell_workers_of(lambda worker: None)
                for peer in list(operations.peers):
                    await peer.end()

    # -- who is asked

    def _find_peers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have every process that serves asked, those that come later, too."""

        def add(name: str, pid: int) -> sockets.socket:
            """Add one, and return its end of the pair."""
            ours, theirs = sockets.socketpair()
            peer = self._operations.add(Peer(name, pid, ours, self._operations.gone))
            try:
                asyncio.run_coroutine_threadsafe(peer, loop)
            except RuntimeError:  # it has ended meanwhile
                peer.close()
                ours.close()
            return theirs

        def serves(worker: Any) -> None:
            """Give a worker its end; in the parent's thread."""
            named = {"module": answering.__name__, "name": answering.begin.__name__}
            try:
                with add(str(worker.place.number), worker.process.pid) as theirs:
                    worker.process.channel.send("begin", {"": theirs.fileno()}, **named)
            except OSError as exc:
                logger.error("admin: %s cannot be asked: %s", worker.name(), exc)

        server = self._server
        if server.workers:
            server._engine.tell_workers_of(serves)
        elif threading.get_ident() == server._runner:  # before its first client
            answering.begin(server, add("0", os.getpid()))
        else:
            server.call_soon_threadsafe(answering.begin, server, add("0", os.getpid()))

    # -- for HAProxy

    async def _answer_agent(self, conn: mux.Connection) -> None:
        delay = self._server._engine.limits.drain_delay
        lag = await self._operations.lag()
        now = monotonic()
        drained_for = None if self._drained_at is None else now - self._drained_at
        with contextlib.suppress(OSError):
            await conn.send(f"{agent.line(lag, now - self._began, drained_for, delay)}\n".encode())
            await conn.aclose()


def _checked_needs(server: Server, needs: Iterable[str]) -> tuple[str, ...]:
    """Return the names of pools that a server has.

    Raises:
        ValueError: it has none of a name.
    """
    needs = (needs,) if isinstance(needs, str) else tuple(needs)
    there = finding.pools(server) if needs else {}
    for name in needs:
        if name not in there:
            meant = near(name, there) or f": there are {', '.join(there) or 'none'}"
            raise ValueError(f"Admin(ready_needs=…): ready_needs: there is no pool {name!r}{meant}")
    return needs
