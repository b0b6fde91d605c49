"""A primary and its replica: a check finds out who is who, and nobody stays with the old one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.testing import Peer, eventually

pytestmark = pytest.mark.real

_CHECK = muxcore.Check(
    every=0.1,
    every_unsure=0.05,
    timeout=60.0,
    fall=2,
    rise=1,
    # it ends the connection, so that a replica fails at once, and not by the time-out
    steps=[(b"PING\r\n", b"+PONG"), (b"INFO replication\r\nQUIT\r\n", b"role:master")],
)


def test_clients_follow_the_primary(engine: str, redis_server: Callable[..., Any]) -> None:
    if engine == "pure-process":
        pytest.skip("it has no timers")
    old, new = redis_server()[1], redis_server()[1]
    _tells(new, f"REPLICAOF {old.replace(':', ' ')}")
    pool = muxcore.Pool(new, old, check=_CHECK, cut_failing=True)

    def primary_is(name: str) -> bool:
        return [each for each, its in pool.stats().items() if its.state == "up"] == [name]

    with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine) as server:
        where = server.addresses[0]
        eventually(lambda: primary_is(old), lambda: f"the primary is not found: {pool.stats()}")
        with Peer(where) as client:
            client.send(b"SET here old\r\n")
            assert client.read_line() == b"+OK\r\n"
            _tells(new, "REPLICAOF NO ONE")
            _tells(old, f"REPLICAOF {new.replace(':', ' ')}")
            client.read_end()  # it was cut, and comes again
        eventually(lambda: primary_is(new), lambda: f"the primary is not found: {pool.stats()}")
        with Peer(where) as client:
            client.send(b"SET here new\r\n")
            assert client.read_line() == b"+OK\r\n"
    assert pool.stats()[new].total >= 1


def _tells(where: str, command: str) -> None:
    with Peer(where) as admin:
        admin.send(f"{command}\r\n".encode())
        assert admin.read_line().startswith(b"+OK")
