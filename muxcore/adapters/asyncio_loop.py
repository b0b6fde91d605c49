"""An asyncio loop as an engine has it: made when needed, guarded against what callbacks raise.

``SystemExit`` and ``KeyboardInterrupt`` are caught before the loop sees them: uvloop swallows some,
asyncio would leave the rest of its turn undone. They end the loop in order.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import socket
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from muxcore.adapters.asyncio_bridges import Bridge
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.parts.loop import LoopEngine
from muxcore.parts.timers import Timer
from muxcore.protocol import Service

_SCRATCH = 65_536  # bytes
_OPENING_TURNS = 6  # from connect(2) to connection_made; a time-out lets it have them


class Connection(Protocol):
    """A transport, to the loop that is to forget it."""

    def _counted(self) -> tuple[int, int]: ...


class Descriptor(Protocol):
    """A descriptor that outlives its connection."""

    def close(self) -> None: ...


class GuardedLoop(LoopEngine):
    """The loop of an adapter, its calls and timers: what its connections see of their engine.

    Attributes:
        scratch: for what a BufferedProtocol is not to have.
        leaving: what ``run()`` is to raise.
        forked: this is a copy, in another process than the one that runs the engine.
    """

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self._bell: asyncio.TimerHandle | None = None  # at the next timer's time
        self._opening: set[asyncio.Task[None]] = set()
        self.scratch = bytearray(_SCRATCH)
        self.leaving: BaseException | None = None
        self.forked = False

    @abc.abstractmethod
    def open_connected(
        self, inner: asyncio.Transport, sock: socket.socket, service: Service, peername: Any
    ) -> None:
        """Serve a connection that asyncio has a transport for already."""

    @abc.abstractmethod
    def gone(
        self, transport: Connection, exc: BaseException | None, left: Descriptor | None = None
    ) -> None:
        """Forget a connection: its ``connection_lost`` has been delivered.

        Args:
            transport: the connection.
            exc: why it ended.
            left: its descriptor, if that lingers; it is counted as open until then.
        """

    @abc.abstractmethod
    def lingered(self, left: Descriptor) -> None:
        """A lingering descriptor is closed; one of a connection that is still there counts not."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Leave a forked child's copy."""

    @functools.cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, made when it is first needed: an engine that is never run has none to close."""
        loop = self._new_loop()
        loop.set_exception_handler(self._on_loop_error)
        return loop

    @functools.cached_property
    def _ended(self) -> asyncio.Future[None]:
        return self.loop.create_future()

    @staticmethod
    def _new_loop() -> asyncio.AbstractEventLoop:
        # not new_event_loop(): a policy that the program has set might answer with another one
        return asyncio.SelectorEventLoop()

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        if get_ident() != self.owner:
            self.refuse_thread("call_later()")
        timer = super().call_later(delay, call, *args)
        self._set_bell()
        return timer

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = super().alarm(delay, call, *args)
        self._set_bell()
        return timer

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.loop.call_soon(self.guard, dispatch.run_call, call, args)

    def after_io(self, call: Callable[..., object], *args: Any) -> None:
        """Queue a call for when what waits in the kernel now has been delivered.

        That is in the turn after the next: a loop makes the calls that are queued, then it reads.
        """
        self.loop.call_soon(self.loop.call_soon, self.guard, call, *args)

    def guard(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call in which code of the user's may run: it may want to end the program."""
        try:
            if not self.forked:
                call(*args)
        except (SystemExit, KeyboardInterrupt) as exc:
            self.leave(exc)
        except BaseException as exc:  # CancelledError and the like: no more than an exception is
            dispatch.logger.error("a call failed: %s", dispatch.describe(call), exc_info=exc)
        if self.forked:
            self.abandon()

    def leave(self, exc: BaseException) -> None:
        """End the loop, and have ``run()`` raise ``exc``; the first one counts."""
        if self.leaving is None:
            self.leaving = exc
        self._end()

    def _set_bell(self) -> None:
        """Look at the timers when the next one is due."""
        if self._bell is not None:
            self._bell.cancel()
        delay = self.timers.delay()
        # what waits in the kernel is delivered before a deadline passes
        self._bell = (
            None if delay is None else self.loop.call_later(delay, self.after_io, self._ring)
        )

    def _ring(self, patience: int = _OPENING_TURNS) -> None:
        if self._opening and patience:
            self.loop.call_soon(self.guard, self._ring, patience - 1)
            return
        try:
            self.timers.run_due()
        finally:
            self._set_bell()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Let an error that a transport of asyncio's raised in the loop fail its connection.

        One is known: shutdown(2), once the queue is sent, of a connection that is reset.
        """
        if self.forked:
            return
        exc = context.get("exception")
        inner = None if exc is None else _raiser(exc)
        bridge = None if inner is None else inner.get_protocol()
        if isinstance(bridge, Bridge):
            bridge.broken(exc)
        else:
            loop.default_exception_handler(context)


def _raiser(exc: BaseException) -> asyncio.Transport | None:
    """Return the transport in whose method an error was raised; its handle is cancelled by then."""
    trace = exc.__traceback__
    while trace is not None:
        inner = trace.tb_frame.f_locals.get("self")
        if isinstance(inner, asyncio.Transport):
            return inner
        trace = trace.tb_next
    return None
