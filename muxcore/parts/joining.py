"""What brings a relay its other side: it connects, and stands in for the peer until then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.parts.searching import Search
from muxcore.pool import Lease, Pool


class Side(Protocol):
    """The transport that waits for its other side, which is a client's."""

    _engine: Engine
    _peer: Any  # the object here, or the other side once that is joined

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...

    def _meet(self, peer: Any, first: bytes, back: bytes) -> None: ...

    def _fail(self, exc: BaseException | None) -> None: ...


class Joining:
    """The protocol of a connection that is opened to be joined.

    Args:
        side: the transport that waits for it.
        where: the address to connect to, or the pool to find one in.
        first: bytes that go there before all others.
        back: bytes that go to ``side`` before all others.
        timeout: seconds for it, or for each try; None means the pool's ``connect_timeout``, or
            ``Limits.connect_timeout``.
        key: the client's, for the pool.

    Raises:
        NoUpstream: the pool has none to wait for.
    """

    __slots__ = ("_back", "_cancel", "_first", "_side", "_upstream")

    def __init__(
        self,
        side: Side,
        where: Address | Pool,
        first: bytes,
        back: bytes,
        timeout: float | None,
        key: bytes,
    ) -> None:
        self._side = side
        self._first = first
        self._back = back
        self._upstream: Lease | None = None  # that is to be told of the end of its connection
        engine = side._engine
        handle = (
            Search(
                *(where, engine, self.connection_made, self.connection_lost),
                timeout=timeout,
                key=key,
                client=side,
            )
            if isinstance(where, Pool)
            else engine.connect(where, lambda: self, timeout)
        )
        self._cancel: Callable[[], object] = handle.cancel

    def connection_made(self, transport: Any, upstream: Lease | None = None) -> None:
        transport.set_protocol(upstream)  # it counts the end; None: nobody is there to hear of it
        try:
            self._side._meet(transport, self._first, self._back)
        except ValueError:  # one of them is lost, and is about to hear so: the other goes with it
            transport.set_protocol(self)
            self._cancel = transport.abort
            self._upstream = upstream

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._upstream is not None:
            self._upstream.connection_lost(exc)
        if self._side._peer is self:
            self._side._peer = None
            self._side._fail(exc)

    # -- in the peer's place

    def close(self) -> None:
        self._cancel()

    def _orphaned(self, exc: BaseException | None) -> None:
        self._cancel()

    def _fail(self, exc: BaseException | None) -> None:
        self._cancel()
