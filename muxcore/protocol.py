"""What a protocol and a transport promise each other, and the marks of the verbs.

The shapes are ``asyncio.Protocol``'s and ``asyncio.Transport``'s. Each class here is a
``typing.Protocol``: nothing needs to inherit from it, and a callback that a protocol does not have
is a no-op. Who does inherit has the callbacks' signatures checked. This is the one page to read
before writing a protocol or an engine.

The life of a connection, as a protocol sees it::

    connection_made ─► data_received* ─► eof_received? ─► connection_lost     (in this order)
                         pause_writing ◄─► resume_writing                      (in turns, between)
                         draining: once, before connection_lost
                         a verb: from there on, nothing but connection_lost

Where muxcore differs from asyncio, on purpose (nothing else differs):

1. An exception in *any* callback closes that connection, and ``connection_lost`` receives it.
   ``SystemExit`` and ``KeyboardInterrupt`` mean the program: they stop the engine, in order and
   completely, so that every other connection hears ``connection_lost``; ``Server.run`` or
   ``Server.stop`` raises them. In the process model the program is the one client's process.
2. Callbacks are plain functions: a service or a protocol with a coroutine or a generator for a
   callback, which nobody would run, is refused with ``ServiceError``.
3. Everything belongs to the engine's thread. In another one a call raises ``RuntimeError``, and
   names ``call_soon_threadsafe``; only ``is_closing``, ``is_reading``, ``get_protocol`` and
   ``get_extra_info`` of ``peername`` and ``engine`` may be asked from anywhere. Callbacks get no
   running asyncio loop, but the adapters' own, and a host's where the engine is a guest in it.
4. A protocol that does not override ``pause_writing`` is protected: while more than the high-water
   mark waits to be sent, its connection is not read from.
5. Beyond ``Limits.write_buffer`` a connection is aborted with ``BufferLimitExceeded``, and after a
   time-out of ``Limits`` with ``IdleTimeout``, ``HalfCloseTimeout`` or ``CloseTimeout``. All four
   end it with a reset: what the kernel still has for a peer that never reads is given up, too.
6. A close lingers where input is unread: it is dropped for up to ``Limits.linger_timeout``, so that
   what was written arrives, and is not overtaken by the reset that a close(2) would send.
   ``connection_lost`` does not wait for it; an abort, a time-out or an error never lingers.
7. Where the engine ``hears_resets``, a reset is heard at once, also while reading is paused or
   after the peer's EOF; what was received before it and not read is gone. Elsewhere, as with
   asyncio, it is heard when the connection is next read or written.
8. A ``connect()`` that fails tells its protocol by ``connection_lost(exc)`` alone, without a
   ``connection_made``: there is no future that could carry the error.
9. On ``native-epoll`` the small writes of a callback leave when it returns, and those of a turn
   whose callbacks are quick together, at the turn's end; where the callbacks of a turn take longer
   than 50 µs each one leaves at once. What a host's task writes, while the engine is a guest,
   leaves before the host sleeps.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from muxcore.address import Address
from muxcore.pool import Pool
from muxcore.rate import Rate
from muxcore.stats import Stats

Bytes: TypeAlias = "bytes | bytearray | memoryview"

AnyProtocol: TypeAlias = Any
"""A user's protocol: a :class:`StreamProtocol` or a :class:`BufferedProtocol` of which any callback
may be missing, which no static type can say."""

Service: TypeAlias = Callable[[], AnyProtocol]
"""A zero-argument callable that returns a protocol: a class, or an instance such as a relay."""

CALLBACKS = (
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "draining",
)
"""What a connection may call before ``connection_lost``; a verb silences all of them."""


class Verb(enum.Enum):
    """From here on the engine moves the bytes."""

    ECHO = "echo"
    DISCARD = "discard"
    RELAY = "relay"


class _Callbacks(Protocol):
    """What every protocol may have."""

    def connection_made(self, transport: Transport) -> None:
        """A connection is open; the first callback."""

    def eof_received(self) -> bool | None:
        """The peer has sent EOF; after a true answer this side stays open for writing."""

    def pause_writing(self) -> None:
        """More than the high-water mark waits to be sent: write no more for now."""

    def resume_writing(self) -> None:
        """The low-water mark is reached: write again."""

    def draining(self) -> bool | None:
        """The server is to end, and waits for its clients: finish, and close.

        Once, when a drain is asked for, while ``Limits.drain_delay`` has yet to pass: who comes in
        that time hears it after ``connection_made``. After a true answer the connection may rest
        beyond ``Limits.drain_idle``, as one does that waits for something other than its peer.
        """

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended; the last callback. ``exc`` says why, None: it was closed."""


class StreamProtocol(_Callbacks, Protocol):
    """A protocol that is given its bytes."""

    def data_received(self, data: bytes) -> None:
        """Some bytes have come, one at least; they are the protocol's to keep."""


class BufferedProtocol(_Callbacks, Protocol):
    """A protocol that says where its bytes are to go; one with ``data_received`` is none."""

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        """Return where the next bytes are to go: writable, one byte at least; a hint of -1 is none.

        It may change after ``buffer_updated``, and must not before.
        """

    def buffer_updated(self, nbytes: int) -> None:
        """The first ``nbytes`` of the buffer have been filled."""


class Handle(Protocol):
    """What ``connect`` and ``call_later`` return."""

    def cancel(self) -> None:
        """Let it not happen; harmless when it has, and a second time."""


class ServerCalls(Protocol):
    """What callbacks reach as ``transport.server``; the whole of it is ``muxcore.Server``."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the engine can do, by name."""

    def adopt(self, sock: socket.socket, service: Service) -> None:
        """Serve a connected socket, which is the server's from now on."""

    def connect(
        self, address: str | int | Address, service: Service, timeout: float | None = None
    ) -> Handle:
        """Open a connection and serve it."""

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        """Run ``call(*args)`` in ``delay`` seconds."""

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` in the engine's thread soon; from any thread or signal handler."""

    def stats(self) -> Stats:
        """Return a snapshot of the counters."""

    def stop(self) -> object:
        """Ask for the end; in a callback it does not wait."""

    def drain(self, timeout: float | None = None) -> object:
        """Ask for an end for which clients may finish; in a callback it does not wait."""


class Transport(Protocol):
    """The engine's object for one connection: ``asyncio.Transport``'s shape, plus the verbs."""

    @property
    def server(self) -> ServerCalls: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection by name.

        ``peername`` and ``sockname`` are socket addresses (the first is recorded when the
        connection opens: it cannot be asked for after a reset); ``socket`` is a non-owning wrapper,
        or None where the engine has no descriptor; ``engine`` is the engine's name; ``bytes`` is
        the pair (received, sent), valid in ``connection_lost`` too. Behind a proxy
        (``muxcore.BehindProxy``) ``peername`` and ``sockname`` are the client's, ``proxy`` is the
        header, and ``proxy_peername`` and ``proxy_sockname`` are the socket's. Anything else gives
        ``default``.
        """

    def get_protocol(self) -> AnyProtocol: ...
    def set_protocol(self, protocol: AnyProtocol) -> None: ...

    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def limit(self, *rates: Rate) -> None:
        """Let what is received count against these rates from now on, and against no others.

        The connection is not read while one of them is used up, whoever used it; without a rate it
        is read as before. Under a verb it holds too. Who waits for a rate is not idle.

        Raises:
            TypeError: one is no ``Rate``.
            ValueError: they are more than four; or one is another server's, which still runs.
            CapabilityMissing: the engine has no ``rates``.
            RuntimeError: a mover has the pair (``movers=``).
        """

    def write(self, data: Bytes) -> None:
        """Send ``data``, or queue what the kernel does not take at once.

        After ``close`` it is dropped, as in asyncio.

        Raises:
            TypeError: ``data`` is not bytes-like.
            RuntimeError: after ``write_eof``, or under a verb.
        """

    def writelines(self, lines: Iterable[Bytes]) -> None: ...
    def write_eof(self) -> None:
        """Send EOF once all that was written is sent; the other direction stays open."""

    def can_write_eof(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high), in bytes."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool: ...
    def close(self) -> None:
        """Send what is queued, then close; ``connection_lost(None)`` follows.

        Input is received no more, or dropped: see the written list for what is unread then. A peer
        that takes nothing for ``Limits.close_timeout`` is given up with ``CloseTimeout``.
        """

    def abort(self) -> None:
        """Close at once and drop what is queued; ``connection_lost(None)`` follows."""

    def echo(self) -> None:
        """Send every further byte back; the peer's EOF is answered with EOF once all is sent.

        Raises:
            ValueError: the connection is closing, has sent EOF, or is under a verb.
        """

    def discard(self) -> None:
        """Drop every further byte; close at the peer's EOF. Raises like :meth:`echo`."""

    def relay(
        self,
        peer: Transport | Pool | str | int | Address,
        *,
        first: Bytes = b"",
        back: Bytes = b"",
        timeout: float | None = None,
        key: str | Bytes = b"",
    ) -> None:
        """Join this connection with another: every further byte of either goes to the other.

        An error of the network on one side ends the other with a reset; what that one's
        ``connection_lost`` receives has the error itself as its ``__cause__``.

        Args:
            peer: another transport of the same running server; an address to connect to; or a pool,
                of which up to ``tries`` upstreams are tried, one by one. Where there is no
                connection, ``connection_lost`` receives why: of a pool ``NoUpstream``.
            first: bytes that go to the peer before all others.
            back: bytes that go to this side before all others.
            timeout: seconds that connecting may take, to each upstream of a pool; None means the
                pool's ``connect_timeout``, or else ``Limits.connect_timeout``.
            key: what says which upstream of a pool with the policy "source" it is; b"" means this
                side's address, without the port.

        Raises:
            ValueError: like :meth:`echo`, for either side; or the timeout is no time.
            TypeError: the peer is no transport, address or pool, or the timeout no number.
            CapabilityMissing: the engine cannot relay, or lacks what the pool ``requires``.
        """


def verb_of(service: Service) -> Verb | None:
    """Return the verb a service declares with its class attribute ``verb``, or None."""
    verb = getattr(service, "verb", None)
    return verb if isinstance(verb, Verb) else None


def is_silent(service: Service) -> bool:
    """Whether a service is a verb and has no callback: Python need not see its connections."""
    if not isinstance(service, type) or verb_of(service) is None:
        return False
    return not any(hasattr(service, name) for name in (*CALLBACKS, "connection_lost"))


_NO_OPS = ("asyncio.protocols", __name__)  # where callbacks stand that do nothing


def handles(protocol: AnyProtocol, callback: str) -> bool:
    """Whether a protocol has a callback of its own: inherited no-ops do not count."""
    method = getattr(type(protocol), callback, None) or getattr(protocol, callback, None)
    return callable(method) and getattr(method, "__module__", "") not in _NO_OPS
