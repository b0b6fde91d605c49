"""A handler and its clients: each is a task, and the end of either is the other's."""

from __future__ import annotations

import asyncio
import inspect
import logging
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from muxcore.aio.connection import Connection
from muxcore.aio.inbox import Inbox
from muxcore.errors import MuxcoreError, ServiceError
from muxcore.parts import dispatch
from muxcore.parts.loop import LoopEngine
from muxcore.parts.transport import BaseTransport

logger = logging.getLogger("muxcore")

Handler: TypeAlias = Callable[[Connection], Awaitable[object]]


def is_handler(what: Any) -> bool:
    """Whether this is called with a connection, and awaited; a service is called with nothing."""
    # the method itself, to look at: B004 is of those who ask whether there is one
    call = what if inspect.isroutine(what) else getattr(what, "__call__", what)  # noqa: B004
    if inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(call):
        return True
    if not callable(what):
        return False  # which the server refuses as a service
    try:
        signature = inspect.signature(what)
    except (TypeError, ValueError):
        return False
    return not _takes(signature) and _takes(signature, None)


def _takes(signature: inspect.Signature, *args: object) -> bool:
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


class Handling:
    """The service of a server whose clients are tasks.

    Args:
        handler: the user's.
        keep: bytes that are kept while a handler does not receive.

    Attributes:
        engine, loop: where it serves, once it does.
        tasks: the handlers that have not ended.
    """

    requires = frozenset({"connect", "flow_control", "guest", "half_close", "relay"})

    def __init__(self, handler: Handler, keep: int) -> None:
        self._handler = handler
        self._keep = keep
        self.engine: LoopEngine
        self.loop: AbstractEventLoop
        self.tasks: set[asyncio.Task[object]] = set()

    def __call__(self) -> _Arrival:
        return _Arrival(self, self._keep)

    def begin(self, inbox: Inbox) -> None:
        """Let the handler have a client: in the context that the server was started in."""
        conn = Connection(inbox)
        coming = self._handler(conn)
        if not inspect.iscoroutine(coming):
            name = dispatch.describe(self._handler)
            raise ServiceError(f"handler {name} returned {coming!r}, which is no coroutine")
        task = self.loop.create_task(coming)
        self.tasks.add(task)
        self.engine.held += 1
        # which keeps the connection: it is closed, or aborted, by how the task ends
        task.add_done_callback(lambda task: self._done(task, conn))

    def _done(self, task: asyncio.Task[object], conn: Connection) -> None:
        inbox = conn._inbox
        self.tasks.discard(task)
        self.engine.let_go()
        if task.cancelled():
            inbox.abort()
            return
        exc = task.exception()
        if exc is not None:
            self._tell(inbox, exc)
        inbox.close()

    def _tell(self, inbox: Inbox, exc: BaseException) -> None:
        """Log what a handler raised; what the network, or a stranger, did has no traceback."""
        usual = isinstance(exc, MuxcoreError | TimeoutError) or (
            inbox.error is not None and type(exc) is type(inbox.error)
        )
        logger.log(
            logging.WARNING if usual else logging.ERROR,
            "handler %s failed; its connection with %s is closed: %s",
            dispatch.describe(self._handler),
            inbox.name,
            str(exc) or type(exc).__name__,
            exc_info=None if usual and not logger.isEnabledFor(logging.DEBUG) else exc,
        )

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()

    async def end(self) -> None:
        """Cancel the handlers, and wait until they have ended, however long they take."""
        self.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)
            await asyncio.sleep(0)  # their connections end in callbacks of their own


class _Arrival(Inbox):
    """A client until its handler has it."""

    __slots__ = ("_handling",)

    def __init__(self, handling: Handling, keep: int) -> None:
        super().__init__(handling.engine, handling.loop, keep, is_served=True)
        self._handling = handling

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._handling.begin(self)
