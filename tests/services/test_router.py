"""Clients that are routed, on every engine that can: no byte is lost, and each is a relay's."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import muxcore
from muxcore import _seldom
from muxcore._seldom import EVERY
from muxcore.parsers import build_proxy_header
from muxcore.services.relay import Record
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream, refusing
from tests.parsers.hellos import hello, named, real, records
from tests.usual import usual

_ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and {"timers", "relay", "threadsafe_calls"} <= info.capabilities
]
ON_EACH = pytest.mark.parametrize("engine", usual(_ENGINES, ("native-epoll", "asyncio")))
ON_ALL = pytest.mark.parametrize("engine", _ENGINES)
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class Routed:
    """A router between two upstreams, and its access log."""

    def __init__(self, one: Upstream, other: Upstream) -> None:
        self.one, self.other = one, other
        self.pools = {"one": muxcore.Pool(one.address), "other": muxcore.Pool(other.address)}
        self.records: list[Record] = []
        self.router: muxcore.Router
        self.server: muxcore.Server

    @contextlib.contextmanager
    def serving(
        self, engine: str, *routes: muxcore.Route, wrap: Any = None, **options: Any
    ) -> Iterator[str]:
        self.router = muxcore.Router(*routes, access_log=self.records.append, **options)
        service = self.router if wrap is None else wrap(self.router)
        self.server = muxcore.Server(service, "127.0.0.1:0", engine=engine)
        with self.server as server:
            yield server.addresses[0]
            eventually(lambda: server.stats().open == 0, "one is left")
        assert [each.upstreams[0].active for each in self.pools.values()] == [0, 0]


@pytest.fixture
def routed() -> Iterator[Routed]:
    with Upstream() as one, Upstream() as other:
        yield Routed(one, other)


def goes(client: Peer, upstream: Upstream, sent: bytes) -> None:
    """Check that all of it came to an upstream, and that both go on."""
    with upstream.accept() as there:
        assert there.read(len(sent)) == sent
        client.send(b"more")
        assert there.read(4) == b"more"
        there.send(b"answer")
        assert client.read(6) == b"answer"


@ON_ALL
@pytest.mark.parametrize("piece", [1, 100, 100_000])
def test_each_goes_where_its_first_bytes_say_and_no_byte_is_lost(
    engine: str, piece: int, routed: Routed
) -> None:
    routes = (
        muxcore.Route(routed.pools["one"], tls_name="*.example.com"),
        muxcore.Route(routed.pools["one"], starts_with=b"MAGIC"),
    )
    with routed.serving(engine, *routes, default=routed.pools["other"]) as where:
        for sent, upstream in (
            (real("a.example.com"), routed.one),
            (real("b.example.org"), routed.other),
            (b"MAGIC" + bytes(range(256)) * 40, routed.one),
            (REQUEST, routed.other),
        ):
            with Peer(where) as client:
                for at in range(0, len(sent), piece):
                    client.send(sent[at : at + piece])
                goes(client, upstream, sent)
        eventually(lambda: len(routed.records) == 4, "they are not logged")
        assert routed.router.counts == {"routed": 2, "default": 2}
    assert [each.ended for each in routed.records] == ["closed"] * 4
    assert [each.upstream for each in routed.records][:2] == [
        routed.one.address,
        routed.other.address,
    ]


@ON_ALL
def test_who_ends_at_once_still_gets_an_answer(engine: str, routed: Routed) -> None:
    route = muxcore.Route(routed.pools["one"], protocol="http")
    options = {"default": routed.pools["other"], "first_bytes": 3600}
    with routed.serving(engine, route, **options) as where:
        for sent, upstream in ((REQUEST, routed.one), (b"GE", routed.other)):
            with Peer(where) as client:
                client.send(sent)
                client.shutdown_write()
                with upstream.accept() as there:
                    assert there.read_all() == sent
                    there.send(b"answer")
                    assert client.read(6) == b"answer"


@ON_ALL
def test_where_nothing_is_asked_of_the_bytes_none_is_waited_for(
    engine: str, routed: Routed
) -> None:
    with (
        routed.serving(engine, default=routed.pools["one"], first_bytes=3600) as where,
        Peer(where) as client,
        routed.one.accept() as there,
    ):
        there.send(b"220 here")
        assert client.read(8) == b"220 here"


@ON_EACH
def test_who_says_nothing_in_time_goes_by_what_there_is(engine: str, routed: Routed) -> None:
    route = muxcore.Route(routed.pools["one"], tls_name="a.example")
    half = real("a.example")[:40]
    with routed.serving(engine, route, default=routed.pools["other"], first_bytes=0.05) as where:
        for sent in (b"", half):
            with Peer(where) as client:
                client.send(sent)
                goes(client, routed.other, sent)
        assert routed.router.counts == {"default": 2}


@ON_EACH
def test_no_more_than_so_much_is_kept_of_a_client(engine: str, routed: Routed) -> None:
    sent = records(hello(named(b"a.example") + b"\0\x15\x17\x70" + bytes(6000)))
    route = muxcore.Route(routed.pools["one"], tls_name="a.example")
    options = {"default": routed.pools["other"], "first_bytes": 3600}
    with (
        routed.serving(engine, route, max_bytes=len(sent), **options) as where,
        Peer(where) as client,
    ):
        client.send(sent)
        goes(client, routed.one, sent)
    with (
        routed.serving(engine, route, max_bytes=len(sent) - 1, **options) as where,
        Peer(where) as client,
    ):
        client.send(sent)
        goes(client, routed.other, sent)


@ON_EACH
def test_whom_no_route_takes_is_refused_counted_and_seldom_told_of(
    engine: str, routed: Routed, caplog: pytest.LogCaptureFixture
) -> None:
    route = muxcore.Route(routed.pools["one"], tls_name="a.example")
    with routed.serving(engine, route) as where:
        for number in range(3):
            with Peer(where) as client:
                client.send(b"hello")
                client.read_end()
            assert routed.router.counts == {"refused": number + 1}
        eventually(lambda: len(routed.records) == 3, "they are not logged")
    (told,) = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert told.endswith("is refused: no route takes it")
    assert EVERY == 10.0
    assert {(each.ended, each.failures, each.upstream) for each in routed.records} == {
        ("refused", ("no route takes it",), "")
    }


@ON_EACH
def test_who_goes_before_it_is_known_where_is_counted_once(engine: str, routed: Routed) -> None:
    route = muxcore.Route(routed.pools["one"], tls_name="a.example")
    with routed.serving(engine, route, first_bytes=3600, default=routed.pools["other"]) as where:
        with Peer(where) as client:  # it only wants to know whether the port is open
            client.shutdown_write()
            client.read_end()
        with Peer(where) as client:
            client.send(b"\x16")
            client.reset()
        eventually(lambda: len(routed.records) == 2, "they are not logged")
        assert routed.router.counts == {"ended": 2}
        assert {each.ended for each in routed.records} == {"closed", "reset by client"}
        assert sum(each.total for each in routed.pools["other"].upstreams) == 0


# -- decisions


@ON_ALL
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_decision_is_given_what_is_known_and_has_the_last_word(
    engine: str, kind: str, routed: Routed
) -> None:
    asked: list[muxcore.First] = []

    def plain(first: muxcore.First) -> muxcore.Pool | str | None:
        asked.append(first)
        if first.hello is not None:
            return "one" if first.hello.server_name == "a.example" else routed.pools["other"]
        return "other" if first.protocol == "http" else None

    async def coroutine(first: muxcore.First) -> muxcore.Pool | str | None:
        await asyncio.sleep(0)
        return plain(first)

    route = muxcore.Route(routed.pools["one"], protocol="ssh")
    decide = plain if kind == "plain" else coroutine
    with routed.serving(engine, route, decide=decide, pools=routed.pools) as where:
        for sent, upstream in (
            (b"SSH-2.0-here\r\n", routed.one),
            (real("a.example"), routed.one),
            (real("b.example"), routed.other),
            (REQUEST, routed.other),
        ):
            with Peer(where) as client:
                for at in range(0, len(sent), 150):
                    client.send(sent[at : at + 150])
                goes(client, upstream, sent)
        with Peer(where) as client:
            client.send(b"whatever else there is")
            client.read_end()
            name = client.name
        assert routed.router.counts == {"routed": 1, "decided": 3, "refused": 1}
        assert [each.protocol for each in asked] == ["tls", "tls", "http", "unknown"]
        assert asked[2].data == REQUEST  # all of its head, in however many pieces
        assert asked[3].peername == name
        assert asked[3].sockname[1] == int(where.rpartition(":")[2])
        assert asked[3].proxy is None
    eventually(lambda: not _threads(), "the thread of decisions goes on")


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "muxcore-router-decisions"]


@ON_EACH
def test_a_decision_may_need_no_byte(engine: str, routed: Routed) -> None:
    def decide(first: muxcore.First) -> str:
        assert (first.data, first.protocol) == (b"", None)
        return "one"

    with (
        routed.serving(engine, decide=decide, pools=routed.pools, first_bytes=0) as where,
        Peer(where) as client,
    ):
        goes(client, routed.one, b"")


@ON_EACH
def test_a_decision_that_fails_costs_its_client_alone(
    engine: str, routed: Routed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_seldom, "EVERY", 0.0)  # each is told

    async def raises(first: muxcore.First) -> str:
        raise LookupError("there is no tenant")

    def decide(first: muxcore.First) -> Any:
        word = first.data.strip()
        if word == b"raise a plain error":
            raise LookupError("there is no tenant")
        if word == b"raise an error later":
            return raises(first)
        return {b"name a pool of none": "third", b"return some number": 5}.get(word, "one")

    words = b"raise a plain error", b"raise an error later", b"name a pool of none"
    with (
        routed.serving(engine, decide=decide, pools=routed.pools) as where,
        Peer(where) as other,
    ):
        other.send(b"this one goes on and on")
        with routed.one.accept() as there:
            assert there.read(23) == b"this one goes on and on"
            for number, word in enumerate((*words, b"return some number")):
                with Peer(where) as client:
                    client.send(word)
                    client.read_end()
                assert routed.router.counts["failed"] == number + 1
            there.send(b"still here")
            assert other.read(10) == b"still here"
    told = [r for r in caplog.records if "failed to decide" in r.getMessage()]
    assert [type(r.exc_info[1]).__name__ for r in told if r.exc_info] == [
        "LookupError",
        "LookupError",
        "LookupError",
        "TypeError",
    ]


def test_decisions_that_fail_for_whoever_wants_it_are_told_at_a_bounded_rate(
    routed: Routed, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(first: muxcore.First) -> str:
        raise LookupError("there is no tenant")

    with routed.serving("pure-epoll", decide=decide, pools=routed.pools, first_bytes=0) as where:
        for _ in range(3):
            with Peer(where) as client:
                client.read_end()
    assert routed.router.counts["failed"] == 3
    (told,) = (r for r in caplog.records if "failed to decide" in r.getMessage())
    assert told.exc_info


@ON_EACH
@pytest.mark.parametrize("how", ["late", "gone", "server"])
def test_a_decision_that_is_not_wanted_any_more_is_cancelled(
    engine: str, how: str, routed: Routed
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def decide(first: muxcore.First) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    timeout = 0.05 if how == "late" else 3600
    with routed.serving(engine, decide=decide, decide_timeout=timeout, first_bytes=3600) as where:
        client = Peer(where)
        client.send(b"sixteen bytes, and some more")
        assert begun.wait(60)
        client.send(b" which are read meanwhile")
        if how == "late":
            client.read_end()
        elif how == "gone":
            client.reset()
        else:
            routed.server.stop()
        assert cancelled.wait(60)
        client.close()
        eventually(lambda: len(routed.records) == 1, "it is not logged")
        assert routed.router.counts == {"late" if how == "late" else "ended": 1}
    eventually(lambda: not _threads(), "the thread of decisions goes on")


@ON_EACH
def test_bytes_that_come_during_a_decision_are_kept_up_to_a_limit(
    engine: str, routed: Routed
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def decide(first: muxcore.First) -> str:
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        return "one"

    with (
        routed.serving(engine, decide=decide, pools=routed.pools, max_bytes=5000) as where,
        Peer(where) as client,
    ):
        client.send(b"sixteen bytes, and some more")
        assert begun.wait(60)
        many = bytes(range(256)) * 400
        client.send(many)
        go_on.set()
        goes(client, routed.one, b"sixteen bytes, and some more" + many)


# -- as a relay


@ON_EACH
def test_it_is_a_relay_with_all_that_one_does(engine: str, routed: Routed) -> None:
    with refusing() as nobody:
        pool = muxcore.Pool(nobody, muxcore.Upstream(routed.one.address, send_proxy="v1"))
        proxied = [build_proxy_header(("192.0.2.7", 4711), ("203.0.113.1", 443))]

        def wrap(router: muxcore.Router) -> Any:
            inner = muxcore.Guard(router, source_connections=1, deny=["198.51.100.0/24"])
            return muxcore.BehindProxy(inner, trusted=["127.0.0.1"], timeout=60)

        route = muxcore.Route(pool, tls_name="a.example")
        with routed.serving(engine, route, wrap=wrap) as where, Peer(where) as client:
            sent = real("a.example")
            client.send(proxied[0] + sent)
            goes(client, routed.one, b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n" + sent)
            assert routed.router.services[0].stats()[nobody].failed == 1
            client.close()
            eventually(lambda: len(routed.records) == 1, "it is not logged")
            (record,) = routed.records
            assert record.client == "192.0.2.7:4711"
            assert record.upstream == routed.one.address
            assert "refused" in record.failures[0]


@ON_EACH
def test_a_change_is_for_those_who_come_from_now_on(engine: str, routed: Routed) -> None:
    one, other = routed.pools.values()
    check = muxcore.Check(every=0.01)
    with Upstream() as third:
        checked = muxcore.Pool(third.address, check=check)
        route = muxcore.Route(one, protocol="http")
        with routed.serving(engine, route, first_bytes=3600) as where:
            relay = routed.router.services[0]
            with Peer(where) as here, Peer(where) as before:
                before.send(b"G")
                here.send(REQUEST)
                with routed.one.accept() as there:
                    assert there.read(len(REQUEST)) == REQUEST
                    _in_engine(
                        routed.server,
                        lambda: routed.router.change(
                            muxcore.Route(other, protocol="http"),
                            muxcore.Route(one),
                            default=checked,
                        ),
                    )
                    with Peer(where) as client:
                        client.send(REQUEST)
                        goes(client, routed.other, REQUEST)
                    before.send(b"ET /")
                    with routed.one.accept() as theirs:
                        assert theirs.read(5) == b"GET /"
                    there.send(b"still here")
                    assert here.read(10) == b"still here"
            assert routed.router.services[1] is relay
            third.accept().close()  # it is checked
            checks = checked.on_added
            _in_engine(routed.server, lambda: routed.router.change(muxcore.Route(one)))
            assert checked.on_added is not checks  # and no longer
            with pytest.raises(ValueError, match="everybody is refused"):
                routed.router.change()
            assert len(routed.router.services) == 1


@ON_EACH
def test_who_is_on_the_way_to_a_pool_that_is_gone_begins_no_checks_of_it(
    engine: str, routed: Routed
) -> None:
    gone = muxcore.Pool(routed.one.address, check=muxcore.Check(every=3600))
    there_now = muxcore.Route(routed.pools["other"])
    with routed.serving(engine, muxcore.Route(gone, protocol="http")) as where:
        with Peer(where) as client:
            client.send(b"G")
            eventually(lambda: routed.server.stats().bytes_in == 1, "it is not heard")
            _in_engine(routed.server, lambda: routed.router.change(there_now))
            ended = gone.on_added
            client.send(b"ET /")
            goes(client, routed.one, b"GET /")
            assert gone.on_added is ended
        back = muxcore.Route(gone)
        _in_engine(routed.server, lambda: routed.router.change(back))
        assert gone.on_added is not ended  # it is checked again


@ON_EACH
def test_a_record_of_whom_nobody_has_says_where_he_came_to(engine: str, routed: Routed) -> None:
    with routed.serving(engine, muxcore.Route(routed.pools["one"], protocol="ssh")) as where:
        with Peer(where) as client:
            client.send(REQUEST)
            client.read_end()
        eventually(lambda: len(routed.records) == 1, "it has no record")
        assert routed.records[0].listener == where


def _in_engine(server: muxcore.Server, call: Any) -> None:
    done = threading.Event()
    server.call_soon_threadsafe(call)
    server.call_soon_threadsafe(done.set)
    assert done.wait(60)


def _decides(first: muxcore.First) -> str:
    return "a"


def test_a_worker_makes_it_anew() -> None:
    pool = muxcore.Pool("a:1", "b:1")
    routes = [muxcore.Route(pool, tls_name=f"{each}.example", alpn="h2") for each in "xyz"]
    router = muxcore.Router(*routes, decide=_decides, pools={"a": pool}, max_bytes=99)
    made = pickle.loads(pickle.dumps(router))
    assert [each.pool.upstreams[1].name for each in made.services] == ["b:1"]
    assert (made.max_bytes, made.plan.decide, made.requires) == (99, _decides, router.requires)
    assert repr(made) == "Router(Relay('a:1', 'b:1'))"


def test_it_requires_what_its_pools_do() -> None:
    pools = muxcore.Pool("a:1"), muxcore.Pool("b:1", max_active=3)
    router = muxcore.Router(muxcore.Route(pools[0]), default=pools[1])
    assert router.requires == {"connect", "relay", "timers", "shared_state"}
    assert "threadsafe_calls" in muxcore.Router(decide=_decides, pools={"a": pools[0]}).requires
    limited = muxcore.Router(default=pools[0], max_connections=7, idle_timeout=5)
    assert limited.limits == {"connections": 7, "idle_timeout": 5}
