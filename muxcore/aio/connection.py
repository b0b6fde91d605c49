"""One connection, as a task uses it."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable
from typing import Any, Self, TypeVar

from muxcore import limits
from muxcore.address import Address
from muxcore.aio.ends import End, Handed, IdleWatch, OnEnd
from muxcore.aio.inbox import Inbox
from muxcore.aio.opening import opened
from muxcore.errors import EndOfStream, TooLong
from muxcore.pool import Pool
from muxcore.protocol import Bytes, Verb
from muxcore.rate import Rate

T = TypeVar("T")

CHUNK = 65_536
"""The most bytes that ``receive`` returns, where nobody says: a connection's default share."""


class Connection:
    """A connection with a peer: bytes are awaited, or handed to the engine with a verb.

    One task at a time may receive; any number may send, and each ``send`` stays in one piece. A
    cancel, wherever it comes, loses no byte that has come, and leaves a connection as it was,
    unless a verb has it: that ends with the task that awaits it.

    Used as a context manager it is closed in the end; left by a cancel it is aborted.
    """

    __slots__ = ("__weakref__", "_inbox")

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __repr__(self) -> str:
        inbox = self._inbox
        state = "lost" if inbox.is_lost else "closed" if inbox.is_closed else "open"
        return f"<Connection {state} peer={self.peer}>"

    def __del__(self) -> None:
        """End what nobody can use any more; as asyncio does, with a warning."""
        inbox = getattr(self, "_inbox", None)
        if inbox is None or inbox.is_closed or sys.is_finalizing():
            return
        text = f"{self!r} was never closed"
        inbox.is_closed = True
        inbox.engine.call_from_thread(inbox.transport.abort)  # whose thread this is, is not known
        warnings.warn(text, ResourceWarning, source=self, stacklevel=1)

    # -- what is known of it

    @property
    def peer(self) -> Address:
        """The peer's address; an empty one where it has no name, as a unix socket's."""
        return _address(self._inbox.known.get_extra_info("peername"))

    @property
    def local(self) -> Address:
        """The address of this side, which is the listener's for one that was accepted."""
        return _address(self._inbox.known.get_extra_info("sockname"))

    @property
    def draining(self) -> bool:
        """Whether the server is to end, and waits for this connection to finish and be closed."""
        return self._inbox.engine.draining

    def extra(self, name: str, default: Any = None) -> Any:
        """Return what is known by name, such as ``socket``: see ``Transport.get_extra_info``."""
        return self._inbox.known.get_extra_info(name, default)

    # -- what comes

    async def receive(self, max: int = CHUNK) -> bytes:  # noqa: A002, the word that users know
        """Return some bytes, one at least and at most ``max``; b"" once the peer has ended.

        Raises:
            ValueError: ``max`` is no positive number.
            OSError: the connection is lost; what came before that was returned first.
            ConnectionClosed: it was closed here, or handed over.
            RuntimeError: another task receives from it.
        """
        inbox = self._inbox
        if max < 1:
            raise ValueError(f"receive() needs room for a byte at least, not max={max!r}")
        while not (data := inbox.data):
            if inbox.is_closed:
                inbox.refuse("receive()")
            if inbox.is_ended:
                return b""
            if inbox.is_awaited or inbox.is_paused:
                inbox.listen()
            await inbox
        if len(data) <= max and type(data) is bytes and not inbox.is_paused:
            inbox.data = b""  # take(), without a call: nearly each message comes here
            return data
        return inbox.take(max)

    async def receive_exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        What has come stays in the connection until it is all there, also when this is cancelled.

        Raises:
            EndOfStream: the peer has ended before.
            ValueError, OSError, ConnectionClosed, RuntimeError: see :meth:`receive`.
        """
        if size < 0:
            raise ValueError(f"receive_exactly() needs a size of at least 0, not {size!r}")
        inbox = self._inbox
        while len(inbox.data) < size:
            await self._more("receive_exactly()", f"{size} bytes")
        return inbox.take(size)

    async def receive_until(self, separator: bytes, max: int = CHUNK) -> bytes:  # noqa: A002
        """Return the bytes up to and with ``separator``.

        Raises:
            TooLong: it does not come within ``max`` bytes, itself included.
            EndOfStream: the peer has ended before.
            ValueError, OSError, ConnectionClosed, RuntimeError: see :meth:`receive`.
        """
        if not separator:
            raise ValueError("receive_until() needs a separator of a byte at least")
        inbox, start = self._inbox, 0
        while (at := inbox.data.find(separator, start, max)) < 0:
            if len(inbox.data) >= max:
                raise TooLong(f"no {separator!r} within {max} bytes", max)
            begun = len(inbox.data) - len(separator) + 1  # here, at the earliest
            if begun > 0:
                start = begun
            await self._more("receive_until()", f"{separator!r}")
        return inbox.take(at + len(separator))

    async def peek(self, parser: Callable[[bytes], T | None], max: int = CHUNK) -> T:  # noqa: A002
        """Return what ``parser`` finds in the bytes that have come, which stay in the connection.

        Args:
            parser: called with all of them whenever some have come; it returns what it has found,
                None for more, or raises. ``muxcore.parsers`` has some.
            max: bytes after which no more are waited for.

        Raises:
            Exception: what the parser raises, such as ``ParseError``.
            TooLong: it has found nothing in ``max`` bytes.
            EndOfStream: the peer has ended, and it has found nothing.
            OSError, ConnectionClosed, RuntimeError: see :meth:`receive`.
        """
        inbox = self._inbox
        while True:
            if inbox.data:
                found = parser(bytes(inbox.data))
                if found is not None:
                    return found
                if len(inbox.data) >= max:
                    raise TooLong(f"peek(): nothing was found in {len(inbox.data)} bytes", max)
            await self._more("peek()", "what the parser looks for")

    async def _more(self, what: str, wanted: str) -> None:
        """Wait for more than there is."""
        inbox = self._inbox
        if inbox.is_closed:
            inbox.refuse(what)
        if inbox.is_ended:
            raise EndOfStream(f"{what}: the peer has ended before {wanted}", len(inbox.data))
        have = len(inbox.data)
        while len(inbox.data) == have and not (inbox.is_ended or inbox.is_lost):
            await inbox.more()

    def limit(self, *rates: Rate) -> None:
        """Receive no more than these allow; raises as :meth:`send` and ``Transport.limit`` do."""
        if self._inbox.is_closed:
            self._inbox.refuse("limit()")
        self._inbox.transport.limit(*rates)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive()
        if not data:
            raise StopAsyncIteration
        return data

    # -- what leaves

    async def send(self, data: Bytes) -> None:
        """Send ``data``, and wait while more than the high-water mark is still to be sent.

        It is queued whole before the wait: a cancel then takes none of it back.

        Raises:
            OSError: the connection is lost.
            ConnectionClosed: it was closed here, or handed over.
            TypeError: ``data`` is not bytes-like.
            RuntimeError: after ``send_eof``.
        """
        inbox = self._inbox
        if inbox.is_closed:
            inbox.refuse("send()")
        inbox.transport.write(data)
        if inbox.is_choked:
            await inbox.room()

    async def send_eof(self) -> None:
        """Let the peer know that no more comes, after all that was sent; it may still send.

        Raises:
            OSError, ConnectionClosed: see :meth:`send`.
        """
        inbox = self._inbox
        if inbox.is_closed:
            inbox.refuse("send_eof()")
        inbox.transport.write_eof()

    # -- the end

    async def aclose(self) -> None:
        """Send what is queued, close, and wait for that; harmless when that is done, or a verb's.

        A cancel aborts it. A peer that takes nothing is given up after ``Limits.close_timeout``.
        """
        inbox = self._inbox
        inbox.close()
        try:
            await inbox.gone()
        except asyncio.CancelledError:
            inbox.abort()
            raise

    def abort(self) -> None:
        """Close at once, and drop what is queued."""
        self._inbox.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.abort()
        await self.aclose()

    # -- verbs: from here on the engine moves the bytes

    async def relay(
        self,
        upstream: Connection | Pool | str | int | Address,
        *,
        idle_timeout: float | None = None,
    ) -> End:
        """Join this connection with another, and wait for the end of both.

        Every byte of either goes to the other, what was not received here first; each direction
        ends by itself. It is final: a second request that a client sends on the connection goes to
        the same upstream. A cancel aborts both.

        Args:
            upstream: a connection of the same server; or an address, or a pool, that is connected
                to first. If that fails, this connection is as it was.
            idle_timeout: seconds after which the pair is cut if no byte moves; the server's
                ``Limits.idle_timeout``, where it has one, holds as well.

        Raises:
            NoUpstream, OSError: there is no connection to the upstream; or one of the two is lost,
                which ends the upstream, too.
            ConnectionClosed: one of them was closed here, or handed over.
            ValueError: they are of two servers, or one has sent EOF; or the time-out is no time.
        """
        timeout = _time(idle_timeout)
        if isinstance(upstream, Connection):
            return await self._until_end(Verb.RELAY, timeout, upstream)
        self._refuse_verb("relay()")
        found = await opened(self._inbox.engine, upstream, client=self._inbox.known)
        try:
            return await self._until_end(Verb.RELAY, timeout, Connection(found))
        finally:
            found.abort()  # unless it was joined

    def hand_over(
        self,
        upstream: Connection,
        on_end: OnEnd | None = None,
        *,
        idle_timeout: float | None = None,
    ) -> None:
        """Join this connection with another, and leave both to the engine: no task waits.

        Args:
            upstream: a connection of the same server.
            on_end: called with the ``End``, in the loop.
            idle_timeout: as of :meth:`relay`.

        Raises:
            OSError, ConnectionClosed, ValueError: see :meth:`relay`.
        """
        self._hand(Verb.RELAY, on_end or _nobody, _time(idle_timeout), upstream)

    async def echo(self, *, idle_timeout: float | None = None) -> End:
        """Send every further byte back until the peer ends; what was not received goes first.

        Raises:
            OSError, ConnectionClosed, ValueError: see :meth:`relay`.
        """
        return await self._until_end(Verb.ECHO, _time(idle_timeout))

    async def discard(self, *, idle_timeout: float | None = None) -> End:
        """Drop every further byte until the peer ends; raises like :meth:`echo`."""
        return await self._until_end(Verb.DISCARD, _time(idle_timeout))

    async def _until_end(
        self, verb: Verb, timeout: float | None, upstream: Connection | None = None
    ) -> End:
        told: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def on_end(end: End) -> None:
            if not told.done():
                told.set_result(end)

        handed = self._hand(verb, on_end, timeout, upstream)
        try:
            return await told
        finally:
            handed.abort()  # unless it has ended

    def _hand(
        self, verb: Verb, on_end: OnEnd, timeout: float | None, upstream: Connection | None = None
    ) -> Handed:
        """Let the verb have the connection; where that is lost, nobody needs the upstream."""
        try:
            return self._handed(verb, on_end, timeout, upstream)
        except OSError:
            if upstream is not None:
                upstream.abort()
            raise

    def _handed(
        self, verb: Verb, on_end: OnEnd, timeout: float | None, upstream: Connection | None
    ) -> Handed:
        what = f"{verb.value}()"
        inbox = self._refuse_verb(what)
        if upstream is None:
            handed = Handed(inbox, on_end)
            inbox.give(verb, handed)
        else:
            other = upstream._refuse_verb(what)
            if other is inbox:
                raise ValueError(f"{what}: the upstream is the connection itself")
            if other.engine is not inbox.engine:
                raise ValueError(
                    f"{what}: the upstream belongs to another server: connect to it in the "
                    "handler, or in a task that the handler starts"
                )
            handed = Handed(inbox, on_end, other.leased or other.name)
            inbox.join(other, handed)
            handed.transport = inbox.known
        if timeout is not None:
            IdleWatch(handed, timeout)
        return handed

    def _refuse_verb(self, what: str) -> Inbox:
        inbox = self._inbox
        if inbox.is_closed:
            inbox.refuse(what)
        inbox.refuse_waiting(what)
        return inbox


def _nobody(end: End) -> None:
    """Stand in for an ``on_end`` that nobody gave."""


def _time(idle_timeout: float | None) -> float | None:
    if idle_timeout is None:
        return None
    timeout = limits.seconds("idle_timeout", idle_timeout)
    if not timeout:
        raise ValueError("idle_timeout must be above 0; None is no time-out")
    return timeout


def _address(sockaddr: Any) -> Address:
    if isinstance(sockaddr, tuple):
        return Address(*sockaddr[:2])
    return Address(path=sockaddr if isinstance(sockaddr, str) else "")
