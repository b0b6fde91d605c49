"""The relay service on every engine: fail-over, caps, log lines, counters."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import muxcore
from muxcore import address as addresses
from muxcore.parts import lookups
from muxcore.parts.answers import FRESH, Answers
from muxcore.services.relay import Record
from muxcore.services.relay.access_log import as_json, as_text
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Silent, Upstream, refusing

ENGINES = [info.name for info in muxcore.engines() if info.available]
SHARED = [name for name in ENGINES if "shared_state" in muxcore.engine(name).capabilities]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


class Log:
    """Collects the records of ended connections."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._come = threading.Condition()

    def __call__(self, record: Record) -> None:
        with self._come:
            self.records.append(record)
            self._come.notify_all()

    def only(self) -> Record:
        with self._come:
            assert self._come.wait_for(lambda: self.records, DEADLINE), "no connection was logged"
            (record,) = self.records
            return record


def _served(relay: muxcore.Relay, engine: str) -> muxcore.Server:
    return muxcore.Server(relay, "127.0.0.1:0", engine=engine, allow_threads=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_is_joined_with_its_upstream(engine: str, upstream: Upstream) -> None:
    with _served(muxcore.Relay(upstream.address), engine) as server:
        with Peer(server.addresses[0]) as client:
            client.send(100_000)
            there = upstream.accept()
            there.read_pattern(100_000)
            there.send(b"answer")
            assert client.read(6) == b"answer"
            client.shutdown_write()
            there.read_eof()
            there.close()
            client.read_eof()
        eventually(lambda: server.stats().open == 0, "the pair is still open")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_next_upstream_takes_over_from_one_that_refuses(
    engine: str, upstream: Upstream
) -> None:
    with (
        refusing() as dead,
        _served(muxcore.Relay(dead, upstream.address), engine) as server,
    ):
        for number in range(4):
            with Peer(server.addresses[0]) as client:
                there = upstream.accept()
                there.send(b"%d" % number)
                assert client.read(1) == b"%d" % number
                there.close()
                client.read_eof()


@pytest.mark.parametrize("engine", SHARED)
def test_while_the_resolver_fails_clients_are_joined_where_the_name_was_last(
    engine: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    real = addresses.resolve
    resolver = mock.Mock(return_value=real(addresses.parse(upstream.address)))

    def resolve(where: muxcore.Address, *, passive: bool = False) -> Any:
        return resolver() if where.host == "db.test" else real(where, passive=passive)

    monkeypatch.setattr(addresses, "resolve", resolve)
    monkeypatch.setattr(lookups, "_answers", Answers(lambda: now))
    with _served(muxcore.Relay("db.test:5432"), engine) as server:
        for _ in range(4):
            with Peer(server.addresses[0]) as client, upstream.accept() as there:
                there.send(b"!")
                assert client.read(1) == b"!"
            now += FRESH
            resolver.side_effect = socket.gaierror(socket.EAI_AGAIN, "not now")
        eventually(lambda: resolver.call_count == 4, "it is asked each time")
        eventually(lambda: lookups._threads == 0, "the thread ends")


@pytest.mark.parametrize("engine", SHARED)
def test_each_upstream_is_counted(engine: str, upstream: Upstream) -> None:
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(refusing())
        relay = muxcore.Relay(dead, upstream.address)
        server = stack.enter_context(_served(relay, engine))
        client = stack.enter_context(Peer(server.addresses[0]))
        there = upstream.accept()
        there.send(b"x")
        client.read(1)
        stats = relay.stats()
        assert (stats[dead].failed, stats[dead].state) == (1, "resting")
        assert (stats[upstream.address].active, stats[upstream.address].total) == (1, 1)
        there.close()
        client.read_eof()
        client.close()
        eventually(lambda: relay.stats()[upstream.address].active == 0, "it is still counted")
        assert server.stats().errors["ConnectionRefusedError"] == 1


@pytest.mark.parametrize("engine", SHARED)
def test_a_record_tells_how_it_went(engine: str, upstream: Upstream) -> None:
    log = Log()
    with _served(muxcore.Relay(upstream.address, access_log=log), engine) as server:
        with Peer(server.addresses[0]) as client:
            client.send(b"12345")
            there = upstream.accept()
            assert there.read(5) == b"12345"
            there.send(b"123")
            assert client.read(3) == b"123"
            there.close()
            client.read_eof()
        record = log.only()
    assert (record.bytes_up, record.bytes_down, record.ended) == (5, 3, "closed")
    assert record.upstream == upstream.address
    assert f"to {upstream.address}: 5 bytes up, 3 down" in as_text(record)
    assert json.loads(as_json(record))["bytes_up"] == 5


@pytest.mark.parametrize("engine", SHARED)
@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_record_tells_who_reset_it(engine: str, side: str, upstream: Upstream) -> None:
    log = Log()
    with _served(muxcore.Relay(upstream.address, access_log=log), engine) as server:
        with Peer(server.addresses[0]) as client:
            client.send(b"x")
            there = upstream.accept()
            there.read(1)
            (client if side == "client" else there).reset()
            (there if side == "client" else client).read_reset()
        assert log.only().ended == f"reset by {side}"


@pytest.mark.parametrize("engine", SHARED)
def test_where_no_upstream_can_be_had_the_client_is_refused(engine: str) -> None:
    log = Log()
    with (
        refusing() as one,
        refusing() as other,
        _served(muxcore.Relay(one, other, access_log=log), engine) as server,
    ):
        with Peer(server.addresses[0]) as client:
            client.read_end()
        record = log.only()
    assert record.ended == "refused"
    assert len(record.failures) == 2


@pytest.mark.parametrize("engine", SHARED)
def test_a_client_is_not_lost_to_an_upstream_that_restarts(engine: str) -> None:
    log = Log()
    with socket.socket() as down:
        down.bind(("127.0.0.1", 0))  # and does not listen yet: it refuses
        name = f"127.0.0.1:{down.getsockname()[1]}"
        relay = muxcore.Relay(muxcore.Pool(name, retry_for=3_600), access_log=log)
        with _served(relay, engine) as server, Peer(server.addresses[0]) as client:
            client.send(b"hello")
            eventually(lambda: relay.stats()[name].failed > 0, "it was not tried")
            down.listen()
            there, _ = down.accept()
            there.sendall(there.recv(5, socket.MSG_WAITALL))
            there.close()
            assert client.read(5) == b"hello"
            client.close()
            assert (log.only().ended, log.only().upstream) == ("closed", name)


@pytest.mark.parametrize("engine", SHARED)
@pytest.mark.parametrize("end", ["client", "server"])
def test_who_is_to_be_tried_again_may_go_and_so_may_the_server(engine: str, end: str) -> None:
    log = Log()
    with refusing() as dead:
        relay = muxcore.Relay(muxcore.Pool(dead, retry_for=3_600), access_log=log)
        with _served(relay, engine) as server, Peer(server.addresses[0]) as client:
            eventually(lambda: relay.stats()[dead].failed > 0, "it was not tried")
            if end == "server" or "hears_resets" not in muxcore.engine(engine).capabilities:
                server.stop()
                client.read_end()
                assert log.only().ended == "stopped"
            else:
                client.reset()
                assert log.only().ended == "reset by client"
    assert relay.stats()[dead].active == 0


@pytest.mark.parametrize("engine", SHARED)
def test_a_relay_takes_a_pool_and_keeps_its_cap(engine: str, upstream: Upstream) -> None:
    log = Log()
    pool = muxcore.Pool(upstream.address, max_active=1)
    relay = muxcore.Relay(pool, access_log=log)
    with _served(relay, engine) as server, Peer(server.addresses[0]) as first:
        there = upstream.accept()
        there.send(b"x")
        first.read(1)
        with Peer(server.addresses[0]) as second:
            second.read_end()
        why = "1 already with max_active clients, or at their rate"
        assert (log.only().ended, log.only().failures) == ("refused", (why,))
        assert relay.stats() == pool.stats()
        assert pool.stats()[upstream.address].active == 1
        there.close()
        first.read_eof()
        first.close()
        eventually(lambda: pool.stats()[upstream.address].active == 0, "it is still counted")


@pytest.mark.parametrize("engine", SHARED)
def test_a_client_that_the_servers_end_overtakes_was_not_refused(engine: str) -> None:
    log = Log()
    with refusing() as dead, Silent() as silent:
        relay = muxcore.Relay(dead, silent.address, access_log=log)
        server = _served(relay, engine)
        with server, Peer(server.addresses[0]) as client:
            eventually(lambda: relay.stats()[silent.address].active == 1, "it was not tried")
            server.stop()
            client.read_end()
    assert log.only().ended == "stopped"
    assert len(log.only().failures) == 1  # the one that did fail
    assert [each.active for each in relay.stats().values()] == [0, 0]


@pytest.mark.parametrize("engine", SHARED)
def test_at_the_cap_further_clients_wait(engine: str, upstream: Upstream) -> None:
    with (
        _served(muxcore.Relay(upstream.address, max_connections=1), engine) as server,
        Peer(server.addresses[0]) as first,
        Peer(server.addresses[0]) as second,
    ):
        there = upstream.accept()
        there.send(b"x")
        first.read(1)
        assert server.stats().open == 1
        first.close()
        there.read_eof()
        there.close()
        upstream.accept().send(b"y")
        assert second.read(1) == b"y"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_idle_pair_is_cut(engine: str, upstream: Upstream) -> None:
    start = time.monotonic()
    with (
        _served(muxcore.Relay(upstream.address, idle_timeout=0.2), engine) as server,
        Peer(server.addresses[0]) as client,
    ):
        there = upstream.accept()
        client.read_reset()
        there.read_reset()
        assert time.monotonic() - start >= 0.15  # the deadline, but for what two clocks may differ
        eventually(lambda: set(server.stats().errors) == {"IdleTimeout"}, "it is counted")


@pytest.mark.parametrize("engine", SHARED)
def test_upstreams_may_be_ipv6_or_unix(engine: str) -> None:
    path = f"unix:@muxcore-relay-{os.getpid()}-{engine}"
    for where in (path, "[::1]:0"):
        try:
            made = Upstream(where=where)
        except OSError:
            continue  # this machine has no IPv6
        with (
            made as upstream,
            _served(muxcore.Relay(upstream.address), engine) as server,
            Peer(server.addresses[0]) as client,
        ):
            upstream.accept().send(b"x")
            assert client.read(1) == b"x"


def test_what_cannot_work_is_refused_before_anything_is_bound() -> None:
    with pytest.raises(TypeError, match="at least one upstream"):
        muxcore.Relay()
    with pytest.raises(muxcore.AddressError, match="5432"):
        muxcore.Relay(":5432")
    with pytest.raises(muxcore.AddressError, match="port 0"):
        muxcore.Relay("db:0")
    with pytest.raises(muxcore.AddressError, match="twice"):
        muxcore.Relay("db:1", "db:1")
    with pytest.raises(ValueError, match="round-robin"):
        muxcore.Relay("db:1", policy="random")
    with pytest.raises(ValueError, match="idle_timeout"):
        muxcore.Relay("db:1", idle_timeout=-1)
    with pytest.raises(ValueError, match="access_log"):
        muxcore.Relay("db:1", access_log="xml")
    pool = muxcore.Pool("db:1", max_active=9)
    with pytest.raises(TypeError, match="one Pool and nothing beside it"):
        muxcore.Relay(pool, "db:2")
    with pytest.raises(TypeError, match=r"Pool\(…, policy=…\)"):
        muxcore.Relay(pool, policy="round-robin")
    with pytest.raises(TypeError, match=r"Pool\(…, connect_timeout=…\)"):
        muxcore.Relay(pool, connect_timeout=1)
    for relay in (muxcore.Relay("db:1", policy="least-connections"), muxcore.Relay(pool)):
        with pytest.raises(muxcore.CapabilityMissing, match="shared_state"):
            muxcore.Server(relay, 0, engine="pure-process")


def test_the_access_log_goes_through_logging(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "muxcore.access")
    with _served(muxcore.Relay(upstream.address, access_log="json"), "pure-epoll") as server:
        with Peer(server.addresses[0]):
            upstream.accept().close()
        eventually(lambda: len(caplog.messages) > 0, "nothing was logged")
    assert json.loads(caplog.messages[-1])["ended"] == "closed"
