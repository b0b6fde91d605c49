"""What has come for a connection, and who waits for it: the protocol beneath a ``Connection``.

It takes what comes, whether or not somebody waits, up to a cap; then reading pauses. A task that
waits is woken, and takes the bytes when it runs: a cancel that comes between loses nothing.
"""

from __future__ import annotations

import asyncio
import copy
import errno
from asyncio import AbstractEventLoop, current_task
from time import monotonic
from typing import NoReturn

from muxcore.aio.wake import Wake
from muxcore.errors import ConnectionClosed
from muxcore.parts.known import ToItsEnd
from muxcore.parts.loop import LoopEngine
from muxcore.parts.transport import BaseTransport
from muxcore.pool import Lease, Trial
from muxcore.protocol import AnyProtocol, Verb
from muxcore.services.relay.access_log import client_name

KEEP = 65_536
"""Bytes that a connection keeps for a task that does not receive; then it is not read from."""


class Inbox(Wake):
    """The protocol of a connection that tasks use: who waits for what comes awaits it.

    Args:
        engine: whose connection it is.
        loop: the tasks'.
        keep: bytes that are kept while nobody receives.
        name: how it was asked for; "" where it was not.
        is_served: it was accepted, or adopted.

    Attributes:
        transport: the connection, once it is open and until it is joined.
        known: what is known of it, from its opening on.
        leased: of the pool's upstream that it is a connection to; told of its end.
        data: what has come, and was not taken.
        is_ended: the peer's EOF has come.
        is_open: ``connection_made`` has been called.
        is_closed: it was closed here, or is a verb's, or is lost.
        is_handed: it is a verb's.
        is_lost: ``connection_lost`` has been called.
        error: why, where that was an error.
        is_choked: more than the high-water mark waits to be sent.
        is_paused: it is not read from, as nobody receives.
        began: monotonic(), when it was accepted, or asked for.
    """

    __slots__ = (
        "_keep",
        "_leaving",
        "_name",
        "began",
        "data",
        "engine",
        "error",
        "is_choked",
        "is_closed",
        "is_ended",
        "is_handed",
        "is_lost",
        "is_open",
        "is_paused",
        "is_served",
        "known",
        "leased",
        "transport",
    )

    transport: BaseTransport
    known: ToItsEnd

    def __init__(
        self,
        engine: LoopEngine,
        loop: AbstractEventLoop,
        keep: int = KEEP,
        *,
        name: str = "",
        is_served: bool = False,
    ) -> None:
        super().__init__(loop)
        self.engine = engine
        self.leased: Lease | None = None
        self.data: bytes | bytearray = b""
        self.is_open = self.is_ended = self.is_closed = self.is_handed = self.is_lost = False
        self.is_served = is_served
        self.is_choked = False
        self.error: BaseException | None = None
        self.began = monotonic()
        self._keep = keep
        self._name = name
        self.is_paused = False
        self._leaving: list[asyncio.Future[None]] | None = None  # who waits for room, or the end

    # -- what the engine tells

    def connection_made(self, transport: BaseTransport) -> None:
        self.transport = self.known = transport
        self.is_open = True
        self.wake()

    def data_received(self, data: bytes | bytearray) -> None:
        kept = self.data
        if kept:
            data = _grown(kept, data)
        self.data = data
        if len(data) >= self._keep and not self.is_paused:
            self.is_paused = True
            self.transport.pause_reading()
        step = self._step  # wake(), without a call: each message comes here
        if step is not None:
            self._step = None
            if current_task(self._loop) is None:
                self._context.run(step, self)
            else:
                self._loop.call_soon(step, self, context=self._context)

    def eof_received(self) -> bool:
        self.is_ended = True
        self.wake()
        return True  # whether this side stays open is for a task to say

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        self._wake_leaving()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = self.is_closed = True
        self.error = exc
        if self.leased is not None:
            self.leased.connection_lost(exc)
            self.leased = None
        self.wake()
        self._wake_leaving()

    def _wake_leaving(self) -> None:
        leaving, self._leaving = self._leaving, None
        for each in leaving or ():
            if not each.done():
                each.set_result(None)

    # -- for tasks: what comes

    async def opening(self) -> None:
        """Wait until it is open.

        Raises:
            OSError, NoUpstream: there is no connection.
        """
        while not self.is_open:
            if self.is_lost:
                self.refuse("connect()")
            await self.more()

    async def more(self) -> None:
        """Wait for news: more has come, or the end, or the opening.

        Raises:
            RuntimeError: another task waits for them.
        """
        self.listen()
        await self

    def listen(self) -> None:
        """See that what is awaited can come.

        Raises:
            RuntimeError: another task waits for it.
        """
        if self.is_awaited:
            raise RuntimeError("another task receives from this connection: one at a time can")
        if self.is_paused:
            self._resume()

    def take(self, size: int) -> bytes:
        """Take at most ``size`` bytes of what has come."""
        data = self.data
        if len(data) <= size:
            self.data = b""
            taken = data if type(data) is bytes else bytes(data)
        else:
            taken = bytes(data[:size])
            if isinstance(data, bytes):
                self.data = bytearray(data[size:])
            else:
                del data[:size]
        if self.is_paused and 2 * len(self.data) <= self._keep:
            self._resume()
        return taken

    def _resume(self) -> None:
        self.is_paused = False
        self.transport.resume_reading()

    # -- for tasks: what leaves

    async def room(self) -> None:
        """Wait until at most the low-water mark waits to be sent.

        Raises:
            OSError: the connection is lost meanwhile.
        """
        while self.is_choked:
            if self.is_lost:
                self.refuse("send()")
            await self._left()

    async def gone(self) -> None:
        """Wait until the connection has ended, unless that is a verb's to do."""
        while not (self.is_lost or self.is_handed):
            await self._left()

    async def _left(self) -> None:
        future = self._loop.create_future()
        if self._leaving is None:
            self._leaving = []
        self._leaving.append(future)
        await future

    # -- the end

    @property
    def name(self) -> str:
        """The name that its pool, or who asked for it, has for the peer; or its address."""
        if self.leased is not None:
            return self.leased.name
        return self._name or client_name(self.known.get_extra_info("peername"))

    def close(self) -> None:
        """Send what is queued, and close, unless it is closed, or a verb's."""
        if not self.is_closed:
            self.is_closed = True
            self.transport.close()

    def abort(self) -> None:
        """Close at once, unless it is lost, or a verb's."""
        if self.is_open and not (self.is_handed or self.is_lost):
            self.is_closed = True
            self.transport.abort()

    def give(self, verb: Verb, protocol: AnyProtocol) -> None:
        """Let a verb have it, with what has come.

        Args:
            verb: echo or discard.
            protocol: hears of the end.

        Raises:
            ValueError: it is closing, or has sent EOF.
        """
        transport = self.transport
        transport._check(verb, "the connection")
        if verb is Verb.ECHO:
            transport.write(bytes(self.data))
        transport.set_protocol(protocol)
        if verb is Verb.ECHO:
            transport.echo()
        else:
            transport.discard()
        self._is_given()

    def join(self, other: Inbox, protocol: AnyProtocol) -> None:
        """Join it with another, both with what has come for them.

        Args:
            other: of the same engine.
            protocol: hears of the end of both.

        Raises:
            ValueError: one of them is closing, or has sent EOF.
            ConnectionResetError: one of them is lost.
        """
        mine, theirs = self.transport, other.transport
        mine._check(Verb.RELAY, "the connection")
        theirs._check(Verb.RELAY, "the upstream")
        mine.set_protocol(protocol)
        # of its end the other side tells, but to a trial
        theirs.set_protocol(other.leased if isinstance(other.leased, Trial) else None)
        try:
            mine.relay(theirs, first=bytes(self.data), back=bytes(other.data))
        except ValueError as exc:  # the engine has lost one of them, and is about to say so
            mine.set_protocol(self)
            theirs.set_protocol(other)
            why = "relay(): the connection, or the upstream, is lost"
            raise ConnectionResetError(errno.ECONNRESET, why) from exc
        self._is_given()
        other._is_given()
        self.known = mine.to_its_end()
        del self.transport  # for the engine has put that in its place

    def _is_given(self) -> None:
        self.is_closed = self.is_handed = True
        self.is_paused = False
        self.data = b""
        self.leased = None

    # -- what cannot be

    def refuse_waiting(self, what: str) -> None:
        """Refuse to give away what a task waits for.

        Raises:
            RuntimeError: one does.
        """
        if self.is_awaited:
            raise RuntimeError(f"{what}: another task receives from this connection")

    def refuse(self, what: str) -> NoReturn:
        """Say why a connection that is closed does not do what was asked of it.

        Raises:
            OSError: what ended it; a copy, so that no traceback keeps it.
            ConnectionClosed: it was closed here, or is a verb's.
        """
        if self.error is not None:
            raise copy.copy(self.error)
        why = "the engine moves its bytes now" if self.is_handed else "it was closed here"
        raise ConnectionClosed(f"{what} of a connection: {why}")


def _grown(kept: bytes | bytearray, data: bytes | bytearray) -> bytearray:
    """Return what was kept, with more behind it; what has grown before grows where it is."""
    grown = kept if type(kept) is bytearray else bytearray(kept)
    grown += data
    return grown
