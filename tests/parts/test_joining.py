"""What brings a relay its other side, where one of the two is lost while they are joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from muxcore.address import Address
from muxcore.parts.joining import Joining
from muxcore.pool import Pool

_ADDRESS = Address("127.0.0.1", 9)


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Engine:
    """Connects when it is told to."""

    def __init__(self) -> None:
        self.handle = Handle()

    def connect(
        self, where: Address, service: Callable[[], Any], timeout: float | None = None
    ) -> Handle:
        self.service = service
        return self.handle


class Side:
    """The transport that waits; what joins it finds it, or the other, lost."""

    def __init__(self, *, lost: bool) -> None:
        self._engine = Engine()
        self._peer: Any = None
        self.joined: list[Any] = []
        self.failed: list[Any] = []
        self._lost = lost

    def _meet(self, peer: Any, first: bytes, back: bytes) -> None:
        if self._lost:
            raise ValueError("relay(): one of them is closing")
        self._peer = peer
        self.joined.append((peer, first, back))

    def _fail(self, exc: BaseException | None) -> None:
        self.failed.append(exc)


class Upstream:
    def __init__(self) -> None:
        self.protocol: Any = "nobody's"
        self.aborted = 0

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.aborted += 1


def joining(*, lost: bool, where: Address | Pool = _ADDRESS) -> tuple[Side, Joining, Upstream]:
    side = Side(lost=lost)
    side._peer = joins = Joining(side, where, b"first", b"back", None, b"")
    upstream = Upstream()
    side._engine.service().connection_made(upstream)
    return side, joins, upstream


def test_a_connection_is_joined_and_nobody_hears_of_it_any_more() -> None:
    side, _, upstream = joining(lost=False)
    assert side.joined == [(upstream, b"first", b"back")]
    assert upstream.protocol is None


def test_an_upstream_that_is_lost_before_it_is_joined_takes_the_waiting_side_along() -> None:
    side, joins, upstream = joining(lost=True)
    assert upstream.protocol is joins
    exc = ConnectionResetError()
    joins.connection_lost(exc)
    assert side.failed == [exc]


@pytest.mark.parametrize("end", ["close", "orphaned", "fail"])
def test_a_waiting_side_that_is_lost_before_it_is_joined_takes_its_upstream_along(
    end: str,
) -> None:
    side, joins, upstream = joining(lost=True)
    {
        "close": joins.close,
        "orphaned": lambda: joins._orphaned(None),
        "fail": lambda: joins._fail(None),
    }[end]()
    assert upstream.aborted == 1
    assert not side._engine.handle.cancelled


def test_a_side_that_ends_while_it_is_connected_for_cancels_that() -> None:
    side = Side(lost=False)
    Joining(side, _ADDRESS, b"", b"", None, b"").close()
    assert side._engine.handle.cancelled


def test_a_connection_to_a_pools_upstream_is_counted_until_it_ends() -> None:
    pool = Pool("127.0.0.1:9")
    side, _, upstream = joining(lost=False, where=pool)
    assert side.joined == [(upstream, b"first", b"back")]
    assert pool.stats()["127.0.0.1:9"].active == 1
    upstream.protocol.connection_lost(None)
    assert pool.stats()["127.0.0.1:9"].active == 0


def test_one_that_is_lost_before_it_is_joined_is_counted_no_more() -> None:
    pool = Pool("127.0.0.1:9")
    side, joins, upstream = joining(lost=True, where=pool)
    assert upstream.protocol is joins
    joins.connection_lost(None)
    assert side.failed == [None]
    assert pool.stats()["127.0.0.1:9"].active == 0
