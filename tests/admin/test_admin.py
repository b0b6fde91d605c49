"""A running server is seen and steered, whatever its loop does."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import socket
import stat
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parsed_text

import muxcore
from muxcore.admin import Admin, agent, finding, front, operations
from muxcore.admin.peers import LIMIT
from muxcore.services.relay import Record
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.suite import eventually
from muxcore.testing.upstream import Upstream, refusing
from tests.admin.conftest import Asked
from tests.usual import usual

Start = Callable[..., Asked]

SHARED = [
    info.name
    for info in muxcore.engines()
    if info.available and "shared_state" in muxcore.engine(info.name).capabilities
]


def test_a_status_says_what_the_server_does(asked: Start, upstream: Upstream) -> None:
    one = asked(muxcore.Relay(upstream.address))
    with one.client(upstream):
        status = one.json("/status")
        assert (status["pid"], status["engine"], status["workers"]) == (
            os.getpid(),
            "pure-epoll",
            0,
        )
        assert (status["open"], status["total"], status["ready"]) == (1, 1, True)
        assert status["listening"] == one.server.addresses
        row = {"pool": "1", "upstreams": 1, "up": 1, "active": 1, "queue": 0, "refused": 0}
        assert status["pools"] == [row]
        assert status["lag"] >= 0
        assert status["missing"] == []


@pytest.mark.parametrize("engine", usual(SHARED, ("native-epoll", "pure-epoll")))
def test_whoever_is_connected_is_listed_and_can_be_killed(
    asked: Start, upstream: Upstream, engine: str
) -> None:
    records: list[Record] = []
    pool = muxcore.Pool(upstream.address, name="db")
    one = asked(muxcore.Relay(pool, access_log=records.append), engine=engine)
    with one.client(upstream) as first, one.client(upstream) as second:
        first.send(b"abc")
        eventually(lambda: _rows(one)[0]["bytes_up"] == 3, "the bytes are not counted")
        rows = _rows(one)
        assert [row["state"] for row in rows] == ["joined", "joined"]
        assert rows[0]["pool"] == "db"
        assert rows[0]["upstream"] == upstream.address
        assert rows[0]["listener"] == one.server.addresses[0]
        assert (rows[0]["bytes_up"], rows[0]["bytes_down"]) == (3, 1)
        assert one.post(f"/kill?id={rows[1]['id']}")["killed"] == 1
        second.read_end()
        eventually(lambda: len(records) == 1, "it was not logged")
        assert (records[0].ended, records[0].id) == ("killed", rows[1]["id"])
        assert [row["id"] for row in _rows(one)] == [rows[0]["id"]]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("client=127.0.0.0/8", 1),
        ("client=10.0.0.0/8", 0),
        ("client=::1", 0),
        ("client=unix", 0),
        ("pool=1", 1),
        ("pool=2", 0),
        ("upstream=db:1", 0),
        ("older=0", 1),
        ("older=3600", 0),
        ("id=1-1", 0),
    ],
)
def test_connections_are_filtered_and_a_kill_has_the_same_filters(
    asked: Start, upstream: Upstream, wanted: str, found: int
) -> None:
    one = asked(muxcore.Relay(upstream.address))
    with one.client(upstream) as client:
        assert len(_rows(one, wanted)) == found
        assert one.post(f"/kill?{wanted}")["killed"] == found
        if found:
            client.read_end()
        else:
            assert len(_rows(one)) == 1


def _rows(one: Asked, wanted: str = "") -> list[dict[str, Any]]:
    return list(one.json(f"/connections?{wanted}" if wanted else "/connections")["connections"])


def test_more_connections_than_a_page_come_once_each(
    asked: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muxcore.admin.answering.PAGE", 3)
    one = asked(muxcore.Relay(upstream.address))
    with contextlib.ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(one.client(upstream))
        ids = [row["id"] for row in _rows(one)]
        assert len(ids) == len(set(ids)) == 7
        assert one.post("/kill?pool=1")["killed"] == 7


def test_those_who_wait_are_listed_with_their_state(asked: Start, upstream: Upstream) -> None:
    one = asked(muxcore.Relay(muxcore.Pool(upstream.address, max_active=1, queue=5)))
    with one.client(upstream), Peer(one.server.addresses[0]):
        eventually(lambda: len(_rows(one)) == 2, "the second has not come")
        assert [row["state"] for row in _rows(one)] == ["joined", "queued"]
        assert one.json("/pools")["pools"][0]["queue"] == 1


def test_one_that_is_ready_again_gets_those_who_wait(asked: Start, upstream: Upstream) -> None:
    pool = muxcore.Pool("127.0.0.1:9", upstream.address, max_active=1, queue=5, queue_timeout=60)
    one = asked(muxcore.Relay(pool))
    pool.upstreams[0].active = 1  # it is full
    one.post(f"/drain?upstream={upstream.address}")
    with Peer(one.server.addresses[0]) as client:
        eventually(lambda: pool.waiting == 1, "it does not wait")
        one.post(f"/ready?upstream={upstream.address}")
        with upstream.accept() as there:
            client.send(b"hello")
            assert there.read(5) == b"hello"


def test_upstreams_are_changed_while_they_serve(asked: Start, upstream: Upstream) -> None:
    relay = muxcore.Relay(upstream.address)
    one = asked(relay)
    name = upstream.address
    one.post(f"/weight?upstream={name}&weight=7")
    assert one.upstream(name)["weight"] == 7
    one.post(f"/drain?upstream={name}")
    assert one.upstream(name)["state"] == "out"
    assert 0 <= one.upstream(name)["changed_ago"] < one.json("/status")["uptime"] + 1
    with Peer(one.server.addresses[0]) as refused:
        refused.read_end()
    one.post(f"/ready?upstream={name}&pool=1")
    with one.client(upstream):
        pass
    told = relay.pool.upstreams[0]
    one.server.call_soon_threadsafe(relay.pool.heard, told, "drain")
    eventually(lambda: one.upstream(name)["state"] == "out", "its agent is not heard")
    assert one.upstream(name)["why"] == "its agent says drain"
    one.post(f"/ready?upstream={name}")  # that agent may never say so
    assert one.upstream(name)["state"] == "up"
    one.post("/add?upstream=127.0.0.1:9&weight=2&backup=1")
    assert (one.upstream("127.0.0.1:9")["weight"], one.upstream("127.0.0.1:9")["backup"]) == (
        2,
        True,
    )
    one.post("/remove?upstream=127.0.0.1:9")
    assert list(relay.stats()) == [name]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/weight?upstream=db:1&weight=0", "from 1 to 256"),
        ("/weight?upstream=db:1", "say which weight"),
        ("/weight?upstream=db:1&weight=x", "invalid literal"),
        ("/weight?weight=1", "say which upstream"),
        ("/drain?upstream=db:9", "there are db:1"),
        ("/drain?upstream=db:1&pool=nix", "there are 1"),
        ("/drain?upstream=db:1&colour=1", "takes no colour"),
        ("/drain?upstream=db:1&upstream=db:1", "twice"),
        ("/remove?upstream=db:1", "the last upstream"),
        ("/add?upstream=db:1", "given twice"),
        ("/add?upstream=db:0", "port 0"),
        ("/kill", "say whom"),
        ("/kill?colour=red", "no filter colour"),
        ("/kill?client=nobody", "IPv4 or IPv6"),
        ("/kill?older=long", "could not convert"),
        ("/kill?older=nan", "older"),
        ("/kill?older=-1", "seconds of at least 0"),
    ],
)
def test_what_cannot_be_is_refused_and_said(asked: Start, target: str, why: str) -> None:
    status, text = asked(muxcore.Relay("db:1")).ask(target, "POST")
    assert status == 400
    assert why in json.loads(text)["error"]


def test_a_pool_need_not_be_said_where_one_alone_has_the_upstream(asked: Start) -> None:
    web, db = muxcore.Pool("a:1", "b:1", name="web"), muxcore.Pool("b:1", "c:1", name="db")
    router = muxcore.Router(muxcore.Route(web, protocol="http"), default=db)
    one = asked(router)
    one.post("/drain?upstream=a:1")
    assert (web.upstream("a:1").out, one.upstream("c:1")["state"]) == (True, "up")
    one.post("/remove?upstream=c:1")
    assert [each.name for each in db.upstreams] == ["b:1"]
    for target in ("/drain?upstream=b:1", "/add?upstream=d:1"):
        status, text = one.ask(target, "POST")
        assert status == 400
        assert "say which pool, by --pool NAME: there are web, db" in text
    assert "no pool has an upstream 'x:1'" in one.ask("/drain?upstream=x:1", "POST")[1]


def test_changes_are_logged(asked: Start, caplog: pytest.LogCaptureFixture) -> None:
    one = asked(muxcore.Relay(muxcore.Pool("a:1", "b:1", name="db")))
    with caplog.at_level(logging.INFO, "muxcore"):
        one.post("/weight?upstream=a:1&weight=7")
        one.ask("/remove?upstream=c:1&pool=db", "POST")
        one.post("/kill?client=192.0.2.0/24")
        one.json("/status")
    assert [record.getMessage() for record in caplog.records] == [
        "admin: weight upstream=a:1 weight=7: done",
        "admin: remove pool=db upstream=c:1: no upstream 'c:1': there are a:1, b:1",
        "admin: kill client=192.0.2.0/24: 0 killed",
    ]


def test_clients_that_a_pool_refuses_are_counted_and_told_of(
    asked: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could see it: it was in the access log alone, and without a reason there."""
    records: list[Any] = []
    with refusing() as dead, caplog.at_level(logging.WARNING, "muxcore"):
        pool = muxcore.Pool(dead, name="db")
        one = asked(muxcore.Relay(pool, access_log=records.append))

        def come() -> None:
            with Peer(one.server.addresses[0]) as client:
                client.read_end()

        come()
        one.post(f"/drain?upstream={dead}")
        come()
        eventually(lambda: len(records) == 2, "a line is missing")
        (shown,) = one.json("/pools")["pools"]
        one.where = "metrics"
        text = one.ask("/metrics")[1]
    assert shown["refused"] == {"down": 1, "failed": 1, "full": 0, "waited": 0}
    assert 'muxcore_pool_refused_total{pool="db",reason="down"} 1' in text
    assert [each.failures for each in records][1] == ("each is failing, or out",)
    told = [record.getMessage() for record in caplog.records]
    assert "pool db has no upstream that is up" in told
    assert sum("a client of pool db is refused: no upstream could be had" in t for t in told) == 1
    assert any(f"upstream {dead} of pool db is left alone" in each for each in told)


def test_what_counts_together_is_told_once_and_stays_when_it_goes(asked: Start) -> None:
    class Changes:
        """A service that a reload may change."""

        def __init__(self, *services: muxcore.Guard) -> None:
            self.services = services

        def __call__(self) -> Any:
            return self.services[0]()

    guard = muxcore.Guard(muxcore.Relay("127.0.0.1:9"), deny=["127.0.0.0/8"])
    service = Changes(guard, guard.around(muxcore.Relay("127.0.0.1:9")))
    one = asked(service)
    with Peer(one.server.addresses[0]) as client:
        client.read_end()
    assert one.json("/status")["counts"] == [["Guard", "denied", 1]]
    service.services = (muxcore.Guard(muxcore.Relay("127.0.0.1:9"), deny=["127.0.0.0/8"]),)
    with Peer(one.server.addresses[0]) as client:
        client.read_end()
    assert one.json("/status")["counts"] == [["Guard", "denied", 2]]


def test_the_metrics_are_what_prometheus_reads(asked: Start, upstream: Upstream) -> None:
    hostile = 'a"b\\c\nd'
    with refusing() as dead:
        pool = muxcore.Pool(dead, upstream.address, name=hostile)
        relay = muxcore.Relay(pool)
        one = asked(muxcore.BehindProxy(relay, trusted=["127.0.0.1"]))
        with Peer(one.server.addresses[0]) as client:
            client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
            there = upstream.accept()
            there.send(b"x")
            client.read(1)
            one.where = "metrics"
            text = one.ask("/metrics")[1]
            openmetrics = one.ask("/metrics", Accept="application/openmetrics-text")[1]
            there.close()
    families = {each.name: each for each in parsed_text(text)}
    strict = {
        each.name: each for each in openmetrics_parser.text_string_to_metric_families(openmetrics)
    }
    assert set(strict) == set(families)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in strict.values()
        for sample in family.samples
    }
    assert values["muxcore_connections",] == 1
    assert values["muxcore_decisions_total", "BehindProxy", "clients"] == 1
    assert values["muxcore_upstream_connections_total", hostile, upstream.address] == 1
    assert values["muxcore_upstream_failed_total", hostile, dead] == 1
    assert values["muxcore_upstream_state", hostile, dead, "resting"] == 1
    assert values["muxcore_upstream_state", hostile, dead, "up"] == 0
    assert values["muxcore_pool_refused_total", hostile, "full"] == 0
    assert values["muxcore_worker_up", "0"] == 1
    assert values["muxcore_errors_total", "ConnectionRefusedError"] == 1
    assert 0 < time.time() - values["process_start_time_seconds",] < 86_400
    assert "192.0.2.1" not in text  # a client is no label
    assert {each.type for each in strict.values()} == {"gauge", "counter"}
    page = (Path(__file__).parents[2] / "docs" / "admin.md").read_text(encoding="utf-8")
    told = {name.replace("…", "muxcore_upstream") for name in re.findall(r"`([…\w]+)`", page)}
    assert {name for name, *_ in values} - told == set()


def test_the_socket_is_its_owners_and_the_metrics_are_read_only(asked: Start) -> None:
    one = asked(muxcore.Relay("db:1"))
    path = one.admin.addresses["socket"].removeprefix("unix:")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    one.where = "metrics"
    for target in ("/status", "/pools", "/connections", "/config"):
        assert one.ask(target)[0] == 404
    for target in ("/kill?older=0", "/drain?upstream=db:1"):
        assert one.ask(target, "POST")[0] == 404
    assert [one.ask(each)[0] for each in ("/livez", "/readyz", "/metrics")] == [200, 200, 200]


def test_it_goes_on_while_the_server_drains(asked: Start, upstream: Upstream) -> None:
    limits = muxcore.Limits(drain_delay=3600.0)
    one = asked(muxcore.Relay(upstream.address), limits=limits)
    with one.client(upstream):
        assert one.ask("/readyz")[0] == 200
        one.server.request_drain()
        eventually(lambda: one.json("/status")["draining"], "it does not drain")
        assert one.ask("/readyz") == (503, "it takes nobody new\n")
        assert one.ask("/livez")[0] == 200
        assert len(_rows(one)) == 1
        one.where = "agent"
        with one.sock() as sock:
            assert sock.makefile().readline() in ("100%\n", "99%\n")


def test_it_is_ready_while_each_pool_that_it_needs_has_an_upstream_for_a_client(
    asked: Start, upstream: Upstream
) -> None:
    db = muxcore.Pool(upstream.address, "127.0.0.1:9", name="db")
    other = muxcore.Pool("127.0.0.1:8", name="other")
    router = muxcore.Router(muxcore.Route(db, starts_with=b"x"), default=other)
    one = asked(router, ready_needs=["db"])
    one.post("/drain?upstream=127.0.0.1:8")  # nobody needs that
    one.post(f"/drain?upstream={upstream.address}")
    assert one.ask("/readyz") == (200, "ok\n")
    one.server.call_soon_threadsafe(db.failed, db.upstreams[1], 0.0, "it is refused")
    eventually(lambda: one.upstream("127.0.0.1:9")["state"] == "resting", "it does not rest")
    assert one.ask("/readyz")[0] == 200  # who comes is sent there, and nobody else would find out
    one.server.call_soon_threadsafe(db.fails, db.upstreams[1], "its check says so")
    why = (503, "pool db: no upstream may have clients\n")
    eventually(lambda: one.ask("/readyz") == why, "it is ready")
    one.where = "metrics"
    assert one.ask("/readyz") == why
    assert one.ask("/livez")[0] == 200
    assert "muxcore_ready 1" in one.ask("/metrics")[1]  # it takes clients all the same
    one.server.call_soon_threadsafe(db.recovered, db.upstreams[1])
    eventually(lambda: one.ask("/readyz")[0] == 200, "it is not ready again")


def test_a_pool_that_is_needed_is_there_and_somebody_answers_for_it() -> None:
    relay = muxcore.Relay(muxcore.Pool("127.0.0.1:9", name="db"))
    server = muxcore.Server(relay, "127.0.0.1:0", engine="pure-epoll")
    with pytest.raises(ValueError, match="there is no pool 'dbs': did you mean db"):
        Admin(server, metrics=0, ready_needs=["dbs"])
    with pytest.raises(ValueError, match="there is no pool 'web': there are db"):
        Admin(server, metrics=0, ready_needs="web")
    with pytest.raises(ValueError, match="ready_needs is about /readyz: give metrics or socket"):
        Admin(server, agent=0, ready_needs=["db"])


def test_it_answers_while_the_loop_hangs_and_says_so(asked: Start, upstream: Upstream) -> None:
    one = asked(muxcore.Relay(upstream.address))
    go_on = threading.Event()
    with one.client(upstream):
        one.server.call_soon_threadsafe(go_on.wait, DEADLINE)
        try:
            status, why = one.ask("/livez")
            assert status == 503
            assert f"pid {os.getpid()}" in why
            assert "has not answered" in why
            answer = one.json("/connections")
            assert answer["connections"] == []
            assert "has not answered" in answer["missing"][0]
            assert one.json("/status")["lag"] > 0.5
            before = one.upstream(upstream.address)["weight"]
            code, text = one.ask(f"/weight?upstream={upstream.address}&weight=9", "POST")
            assert code == 503, text
        finally:
            go_on.set()
        eventually(lambda: one.ask("/livez")[0] == 200, "it does not live again")
        assert one.upstream(upstream.address)["weight"] == before  # it was told as not done


def test_the_config_is_shown_by_who_can_tell(asked: Start) -> None:
    assert asked(muxcore.Relay("db:1"), config=lambda: "[server]\n").ask("/config") == (
        200,
        "[server]\n",
    )


def test_there_is_no_config_where_nobody_can_tell(asked: Start) -> None:
    status, text = asked(muxcore.Relay("db:1")).ask("/config")
    assert (status, "by a program" in text) == (404, True)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /livez HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /livez HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET /nix HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"GET /kill?older=0 HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"POST /status HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (
            b"POST /kill HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 413 Content Too Large",
        ),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000, b"HTTP/1.1 431 Request Header"),
        (b"\x16\x03\x01", b""),
    ],
)
def test_a_request_is_answered_or_refused(asked: Start, request_: bytes, answer: bytes) -> None:
    with asked(muxcore.Relay("db:1")).sock() as sock:
        sock.sendall(request_)
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65_536):
                got += data
    assert got.startswith(answer)
    assert bool(got) == bool(answer)
    if b"/metrics" in request_:
        assert got.endswith(b"\r\n\r\n")  # a HEAD has no body


def test_who_says_nothing_or_reads_nothing_is_not_waited_for(
    asked: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "HEAD", 0.1)
    monkeypatch.setattr(front, "ANSWER", 0.3)
    pool = muxcore.Pool(*(f"127.0.0.1:{port}" for port in range(1, 401)), name="p" * 1000)
    one = asked(muxcore.Relay(pool))
    with one.sock() as silent:
        silent.sendall(b"GET /livez HTT")
        assert _is_ended(silent)
    with one.sock() as lazy:  # 4 MB of names: more than the kernel takes for it
        lazy.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        poll = select.poll()
        poll.register(lazy, 0)  # of its end alone
        assert poll.poll(DEADLINE * 1000), "it is waited for"
    monkeypatch.setattr(front, "ANSWER", 30.0)
    assert one.ask("/livez")[0] == 200


def _is_ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_the_agents_line_falls_with_the_lag_and_counts_down() -> None:
    assert agent.line(0.0, 0.0, None, 0.0) == "ready up 100%"
    assert agent.line(0.01, 100.0, None, 0.0) == "up 100%"
    assert agent.line(0.13, 100.0, None, 0.0) == "up 50%"
    assert agent.line(0.25, 100.0, None, 0.0) == "up 1%"
    assert agent.line(9.0, 100.0, None, 0.0) == "up 1%"
    lines = [agent.line(0.0, 100.0, passed, 10.0) for passed in (0.0, 2.5, 5.0, 9.99, 10.0, 99.0)]
    assert lines == ["100%", "75%", "50%", "1%", "drain", "drain"]
    assert agent.line(0.13, 100.0, 5.0, 10.0) == "25%"
    assert agent.line(0.0, 0.0, 0.0, 0.0) == "drain"


def test_a_relay_answers_the_agents_check(asked: Start) -> None:
    one = asked(muxcore.Relay("db:1"))
    one.where = "agent"
    with one.sock() as sock:
        said = sock.makefile().read()
    assert said.startswith("ready up ")
    assert said.endswith("%\n")


def test_relays_are_found_in_services_within_services() -> None:
    class Chooses:
        def __init__(self, *services: Any) -> None:
            self.services = services

        def __call__(self) -> None:
            return None

    one, other = muxcore.Relay("a:1"), muxcore.Relay(muxcore.Pool("b:1", name="b"))
    service = Chooses(muxcore.BehindProxy(one, trusted=["unix"]), {"x": other}, one, muxcore.Echo)
    assert finding.relays(service) == [one, other]
    assert finding.pools(service) == {"1": one.pool, "b": other.pool}
    same = Chooses(muxcore.Relay(muxcore.Pool("a:1", name="b")), other)
    assert list(finding.pools(same)) == ["b", "b-2"]


def test_a_relay_that_comes_later_is_found(
    asked: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muxcore.admin.answering._EVERY", 0.01)
    proxied = muxcore.BehindProxy(muxcore.Relay("db:1"), trusted=["127.0.0.1"])
    one = asked(proxied)
    later = muxcore.Relay(upstream.address)
    proxied.service = later
    eventually(lambda: later.clients is not None, "nobody follows it")
    assert one.upstream(upstream.address)["state"] == "up"


def test_an_engine_of_forks_is_refused() -> None:
    server = muxcore.Server(muxcore.Relay("db:1"), 0, engine="pure-process")
    with pytest.raises(muxcore.CapabilityMissing, match="a process for each client"):
        Admin(server, socket="unix:/nowhere/x")


def test_what_cannot_be_listened_on_is_refused(tmp_path: Path) -> None:
    server = muxcore.Server(muxcore.Relay("db:1"), "127.0.0.1:0", engine="pure-epoll")
    with pytest.raises(TypeError, match="say where"):
        Admin(server)
    with pytest.raises(ValueError, match="must be a path"):
        Admin(server, socket="127.0.0.1:1")
    with server, pytest.raises(muxcore.BindError):
        Admin(server, socket=f"unix:{tmp_path}/there/is/none").start()


def test_it_ends_and_leaves_nothing(asked: Start, tmp_path: Path) -> None:
    before = threading.active_count()
    with (
        muxcore.Server(muxcore.Relay("db:1"), "127.0.0.1:0", engine="pure-epoll") as server,
        Admin(server, socket=f"unix:{tmp_path}/it") as admin,
    ):
        with pytest.raises(RuntimeError, match="started before"):
            admin.start()
        assert Path(f"{tmp_path}/it").exists()
    eventually(lambda: threading.active_count() == before, "a thread is left")
    assert not Path(f"{tmp_path}/it").exists()
    assert server.on_drain == []
    admin.stop()


def test_importing_muxcore_does_not_import_it() -> None:
    program = "import sys, muxcore, muxcore.cli; print([m for m in sys.modules if 'admin' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_counter_goes_back_when_a_worker_ends() -> None:
    it = operations.Operations(None)
    upstream = {"upstream": "a:1", "active": 3, "total": 9, "failed": 1, "unanswered": 0}

    gone: Any = types.SimpleNamespace(
        pools=[{"pool": "1", "refused": {"full": 2}, "upstreams": [upstream]}],
        counts=[["Guard", "denied", 7]],
    )
    it.peers = [gone]
    it.gone(gone)
    it.gone(gone)
    assert it._gone == {("1", "a:1"): {"total": 9, "failed": 1, "unanswered": 0}}
    assert it._refused == {"1": {"full": 2}}
    assert it._counted == {("Guard", "denied"): 7}
    assert it.peers == []
    assert LIMIT <= 1  # s: what the documents promise
