"""A server in the loop: it begins, drains, and ends with all that it has begun."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self, TypeAlias, cast

import muxcore
from muxcore._demands import Where, each_changed
from muxcore._supervised import supervise
from muxcore.aio.ends import Handed
from muxcore.aio.handling import Handler, Handling, is_handler
from muxcore.aio.home import enter, set_movers
from muxcore.aio.inbox import KEEP, Inbox
from muxcore.aio.signals import heard
from muxcore.limits import Limits
from muxcore.parts.loop import LoopEngine
from muxcore.protocol import Service
from muxcore.services.relay.access_log import client_name
from muxcore.services.wrapping import within

Handlers: TypeAlias = "Handler | Service | Mapping[Where, Handler | Service]"


@dataclass(frozen=True, slots=True)
class Client:
    """One connection that is served now.

    Attributes:
        peer: its address; "unix" for one without a name.
        upstream: whom it is joined with, or "".
        age: seconds since it was accepted.
        bytes_in: received from it.
        bytes_out: sent to it.
        close: called, it sends what is queued, and ends it; one that has ended does not mind.
    """

    peer: str
    upstream: str
    age: float
    bytes_in: int
    bytes_out: int
    close: Callable[[], None]


class Server:
    """A handler, or a service, on some addresses, in the loop that runs; see :func:`serve`.

    Attributes:
        addresses: where it listens.
    """

    def __init__(
        self,
        handler: Handlers,
        *where: Where,
        engine: str | None = None,
        limits: Limits | None = None,
        trigger: str = "level",
        reuse_port: bool = False,
        keep: int = KEEP,
        movers: int | None = None,
    ) -> None:
        self._handlings: list[Handling] = []

        def handled(inner: Any) -> Any:
            if is_handler(inner):
                inner = Handling(cast(Handler, inner), keep)
                self._handlings.append(inner)
            return inner

        self._server = muxcore.Server(
            each_changed(handler, lambda each: within(each, handled)),
            *where,
            engine=engine,
            limits=limits,
            trigger=trigger,
            reuse_port=reuse_port,
        )
        engine_ = self._server._engine
        engine_.need("guest")
        assert isinstance(engine_, LoopEngine)
        self._engine = engine_
        set_movers(engine_, movers)
        self._run: asyncio.Task[bool] | None = None
        self._signals: list[signal.Signals] = []
        self._asked: asyncio.Event  # for the end, by a signal

    @property
    def addresses(self) -> list[str]:
        return self._server.addresses

    @property
    def engine(self) -> str:
        """The name of the engine that was chosen."""
        return self._server.engine

    @property
    def workers(self) -> int:
        """How many processes serve for this one; 0: it serves itself."""
        return self._server.workers

    @property
    def ready(self) -> bool:
        """Whether it listens and goes on to; see ``muxcore.Server.ready``."""
        return self._server.ready

    @property
    def on_drain(self) -> list[Callable[[muxcore.Server], object]]:
        """Each is called in the loop once the server's end begins; see ``muxcore.Server``."""
        return self._server.on_drain

    def stats(self) -> muxcore.Stats:
        """Return a snapshot of the counters."""
        return self._server.stats()

    def connections(self) -> tuple[Client, ...]:
        """Return those that tasks serve, or that were handed over by them, as they are now."""
        now = monotonic()
        return tuple(
            _client(each, now)
            for transport in self._engine.open_transports()
            if isinstance(each := transport.get_protocol(), Inbox | Handed)
            and each.is_served
            and each.transport is not None
        )

    # -- its life

    async def __aenter__(self) -> Self:
        """Listen, and serve from now on.

        Raises:
            BindError: an address cannot be listened on; nothing stays open.
            RuntimeError: it was started before.
        """
        if self._run is not None:
            raise RuntimeError("this server was started before: make a new one")
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._asked = asyncio.Event()
        self._run = loop.create_task(self._serve(ready), name="muxcore.aio.Server")
        try:
            await asyncio.wait((ready, self._run), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._engine.abort()
            await asyncio.wait((self._run,))
            raise
        if not ready.done():
            await self._run  # which raises why
        return self

    async def _serve(self, ready: asyncio.Future[None]) -> bool:
        enter(self._engine)  # handlers begin in this context
        for handling in self._handlings:
            handling.engine = self._engine
            handling.loop = asyncio.get_running_loop()

        def on_ready(server: muxcore.Server) -> None:
            if not ready.done():
                ready.set_result(None)

        return await self._server.run_async(on_ready)

    async def serve_forever(self) -> None:
        """Serve until SIGTERM or a cancel, and then :meth:`drain`; or until SIGINT, and then end.

        A second signal cuts the drain short. At SIGUSR2 the program is started anew, and once that
        serves on the same sockets, here is a drain: docs/restarting.md. Signals are heard in the
        main thread; see ``signals.py``.

        Raises:
            CancelledError: after the drain of a cancel; a second one cuts it short.
            BaseException: what ended the engine, where that was an error.
        """
        over = asyncio.ensure_future(self._wait_until_over())
        asked = asyncio.ensure_future(self._asked.wait())
        supervise(self._server)
        try:
            with heard(self, self._server._engine.limits.restart_timeout):
                try:
                    await asyncio.wait((over, asked), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if self._signals[:1] == [signal.SIGINT]:
                        await self._end(at_once=False)
                    else:
                        await self.drain()
        finally:
            asked.cancel()
            over.cancel()

    async def drain(self, timeout: float | None = None) -> bool:
        """Accept nobody any more, let the clients finish, and end those that do not.

        ``Limits`` has the rest: see ``muxcore.Server.drain``. A handler sees it by
        ``Connection.draining``; one that goes on without a connection has the same time.

        Args:
            timeout: seconds that they have; None means ``Limits.drain_timeout``. Then connections
                are ended with ``Stopped``, and handlers that go on are cancelled.

        Returns:
            Whether all had finished by then, or were idle.

        Raises:
            TypeError, ValueError: the timeout is no time.
            CancelledError: it was cancelled, which ends everybody at once.
            BaseException: what ended the engine, where that was an error.
        """
        run = self._started()
        self._server.request_drain(timeout)
        try:
            await asyncio.wait((run,))
        except asyncio.CancelledError:
            await self._end(at_once=True)
            raise
        busy = any(handling.tasks for handling in self._handlings)
        await self._end(at_once=False)
        return run.result() and not busy

    async def __aexit__(self, *exc: object) -> None:
        """End what is left: handlers are cancelled, what is queued is sent.

        Raises:
            BaseException: what ended the engine, where that was an error.
        """
        await self._end(at_once=False)

    def _started(self) -> asyncio.Task[bool]:
        if self._run is None:
            raise RuntimeError("this server is not started: use `async with` for it")
        return self._run

    async def _end(self, *, at_once: bool) -> None:
        """Cancel the handlers, wait for them, and end the engine."""
        run = self._started()
        if not run.done():
            self._engine.close_listeners()
        try:
            for handling in self._handlings:
                await handling.end()
            if at_once or len(self._signals) > 1:
                self._engine.abort()
            else:
                self._server.request_stop()
            await asyncio.wait((run,))
        except asyncio.CancelledError:
            self._engine.abort()
            await asyncio.wait((run,))
            raise
        run.result()

    def _asked_to_end(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._asked.set()
        if len(self._signals) > 1:
            self._cut_short()

    def _hand_over(self, heir: int) -> None:
        self._server._hand_over(heir)
        self._asked.set()

    # -- what is another's with workers

    def _wait_until_over(self) -> Coroutine[Any, Any, object]:
        return asyncio.wait((self._started(),))

    def _cut_short(self) -> None:
        for handling in self._handlings:
            handling.cancel()
        self._engine.abort()


def serve(
    handler: Handlers,
    *where: Where,
    engine: str | None = None,
    limits: Limits | None = None,
    trigger: str = "level",
    reuse_port: bool = False,
    keep: int = KEEP,
    movers: int | None = None,
    workers: int | str | None = None,
    worker_setup: Callable[[], object] | None = None,
    balance: str = "kernel",
) -> Server:
    """Serve clients in the running loop, asyncio's or uvloop's.

    ::

        async with muxcore.aio.serve(handle, "127.0.0.1:9000") as server:
            await server.serve_forever()

    Args:
        handler: ``async def handle(conn: Connection)``, a task for each client. Its return closes
            the connection, unless a verb has it; an exception closes it, and is logged; its
            ``CancelledError`` aborts it. Or a service, as of ``muxcore.Server``;
            or a mapping of addresses to such, as there.
        where: addresses, or bound sockets, as of ``muxcore.Server``.
        engine: one with the capability ``guest``; None means ``MUXCORE_ENGINE``, then "auto".
        limits: the caps; the defaults suit a public port.
        trigger: "level" or "edge".
        reuse_port: let several processes listen on one port.
        keep: bytes of a client that are kept while its handler does not receive.
        movers: threads that joined pairs go to, which move their bytes in C, beside the loop and
            without the GIL. 0: the loop's own thread does that. None means 1 where the engine has
            ``native_verbs``, else 0. Of each worker, where there are any.
        workers: processes with a loop each, of the running one's kind, in which the handler is
            called; the server here is their parent, and serves nobody. None: no workers. This and
            the next two are ``muxcore.Server``'s: see docs/workers.md.
        worker_setup: called in each worker before it serves.
        balance: "kernel" or "exact".

    Raises:
        ServiceError, UnknownEngine, EngineUnavailable, CapabilityMissing, AddressError: see
            ``muxcore.Server``; or the engine cannot have movers.
        ValueError: so many movers, or workers, there cannot be.
    """
    if workers is not None:
        from muxcore.aio.working import WorkersServer

        return WorkersServer(
            handler,
            *where,
            engine=engine,
            limits=limits,
            trigger=trigger,
            reuse_port=reuse_port,
            keep=keep,
            movers=movers,
            workers=workers,
            worker_setup=worker_setup,
            balance=balance,
        )
    return Server(
        handler,
        *where,
        engine=engine,
        limits=limits,
        trigger=trigger,
        reuse_port=reuse_port,
        keep=keep,
        movers=movers,
    )


def _client(each: Inbox | Handed, now: float) -> Client:
    transport = each.transport
    assert transport is not None
    received, sent = transport.get_extra_info("bytes")
    peer = client_name(transport.get_extra_info("peername"))
    upstream = each.upstream if isinstance(each, Handed) else ""
    return Client(peer, upstream, now - each.began, received, sent, each.close)
