"""A relay does not relay to itself: one client would take every connection, and keep it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

import muxcore
from muxcore import address
from muxcore.services.relay import Record
from muxcore.services.relay.own import is_own
from muxcore.testing import Peer, eventually
from muxcore.testing.peer import DEADLINE
from muxcore.testing.upstream import Upstream

_ENGINES = [info.name for info in muxcore.engines() if info.available]


def bound() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def of(sock: socket.socket) -> str:
    return address.of_socket(sock)


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_client_of_a_relay_to_itself_is_refused_and_takes_nothing(engine: str) -> None:
    with bound() as sock:
        relay = muxcore.Relay(of(sock))
        server = muxcore.Server(relay, sock.dup(), engine=engine, allow_threads=True)
    limit = 3.0  # s; in a ring it is over when every descriptor is taken
    with server, Peer(server.addresses[0], deadline=limit) as client:
        client.read_end()
        eventually(lambda: server.stats().open == 0, "connections stay open")
        assert server.stats().total == 1


def test_the_log_says_why_and_the_next_upstream_is_taken() -> None:
    records: list[Record] = []
    with Upstream() as upstream, bound() as sock:
        relay = muxcore.Relay(of(sock), upstream.address, access_log=records.append)
        with muxcore.Server(relay, sock.dup(), engine="pure-select") as server:
            for _ in range(2):  # whosever turn it is
                with Peer(server.addresses[0]) as client:
                    client.send(b"hello")
                    there = upstream.accept()
                    assert there.read(5) == b"hello"
                    there.close()
            eventually(lambda: len(records) == 2, "a line is missing")
    assert ("it is this server itself",) in [each.failures for each in records]


def test_a_relay_that_is_added_to_its_own_pool_later_is_not_joined_with_itself() -> None:
    with Upstream() as upstream:
        relay = muxcore.Relay(upstream.address)
        with muxcore.Server(relay, "127.0.0.1:0", engine="pure-select") as server:
            with Peer(server.addresses[0]) as client:
                client.send(b"hello")
                upstream.accept().close()
                client.read_end()
            done = threading.Event()

            def swaps() -> None:
                relay.pool.add(server.addresses[0])
                relay.pool.remove(upstream.address)
                done.set()

            server.call_soon_threadsafe(swaps)
            assert done.wait(DEADLINE)
            with Peer(server.addresses[0]) as client:
                client.read_end()
            eventually(lambda: server.stats().open == 0, "connections stay open")
            assert server.stats().total == 2


@pytest.mark.parametrize(
    ("upstream", "listening"),
    [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("localhost:9000", "127.0.0.1:9000"),
        ("LOCALHOST:9000", "0.0.0.0:9000"),
        ("127.0.0.1:9000", "0.0.0.0:9000"),
        ("127.7.7.7:9000", "0.0.0.0:9000"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("0.0.0.0:9000", "0.0.0.0:9000"),
        ("unix:/run/s", "unix:/run/s"),
        ("unix:/run/../run/s", "unix:/run/s"),
        ("unix:@s", "unix:@s"),
    ],
)
def test_addresses_that_surely_come_back(upstream: str, listening: str) -> None:
    assert is_own(address.parse(upstream), [address.parse("9001"), address.parse(listening)])


@pytest.mark.parametrize(
    ("upstream", "listening"),
    [
        ("127.0.0.1:9001", "127.0.0.1:9000"),
        ("127.0.0.2:9000", "127.0.0.1:9000"),
        ("192.0.2.1:9000", "0.0.0.0:9000"),  # of nobody's: RFC 5737
        ("no-such-host.invalid:9000", "0.0.0.0:9000"),
        ("[::1]:9000", "0.0.0.0:9000"),
        ("unix:/run/t", "unix:/run/s"),
        ("unix:/run/s", "127.0.0.1:9000"),
    ],
)
def test_addresses_that_do_not(upstream: str, listening: str) -> None:
    assert not is_own(address.parse(upstream), [address.parse(listening)])


def test_a_path_from_here_is_the_same_as_the_whole_one(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        here = os.getcwd()
        assert is_own(address.parse("unix:s"), [address.parse(f"unix:{here}/s")])
