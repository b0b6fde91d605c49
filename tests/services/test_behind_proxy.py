"""Services behind a proxy, and upstreams behind one: whose connection it is, on every engine."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import muxcore
from muxcore._seldom import EVERY
from muxcore.parsers import ProxyHeader, build_proxy_header, proxy_header
from muxcore.services.relay import Record
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream, refusing

_ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and {"timers", "connect"} <= info.capabilities
]
ON_EACH = pytest.mark.parametrize("engine", _ENGINES)
CLIENT, TO = ("192.0.2.7", 4711), ("203.0.113.1", 443)
LOCALLY = ["127.0.0.0/8", "unix"]
V2 = build_proxy_header(CLIENT, TO, tlvs=[(2, b"a.example"), (5, b"id"), (4, b"")], checksum=True)
V1 = build_proxy_header(CLIENT, TO, version=1)


class Tells:
    """Answers each line with what is known of the connection."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while b"\n" in self.rest:
            name, _, self.rest = self.rest.partition(b"\n")
            told = self.transport.get_extra_info(name.decode())
            self.transport.write(repr(told).encode() + b"\n")


@contextlib.contextmanager
def behind(
    engine: str, service: Any, where: str = "127.0.0.1:0", **options: Any
) -> Iterator[tuple[str, muxcore.BehindProxy]]:
    """Serve it behind a proxy that may come from loopback; yield its address."""
    wrapped = muxcore.BehindProxy(service, **{"trusted": LOCALLY, "timeout": 60.0} | options)
    with muxcore.Server(wrapped, where, engine=engine, allow_threads=True) as server:
        yield server.addresses[0], wrapped
        eventually(lambda: server.stats().open == 0, "one is left")


def asked(client: Peer, name: str) -> Any:
    client.send(name.encode() + b"\n")
    return client.read_line().rstrip(b"\n").decode()


@ON_EACH
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_connection_is_the_clients(engine: str, header: bytes, piece: int) -> None:
    with behind(engine, Tells) as (where, wrapped), Peer(where) as client:
        sent = header + b"peername\n"
        for at in range(0, len(sent), piece):
            client.send(sent[at : at + piece])
            if piece == 7:
                client.pause(0.001)
        assert client.read_line() == repr(CLIENT).encode() + b"\n"
        assert asked(client, "sockname") == repr(TO)
        assert asked(client, "proxy_peername") == repr(client.name)
        assert asked(client, "proxy_sockname") == repr(client.sock.getpeername())
        assert asked(client, "proxy") == repr(proxy_header(header))
        assert wrapped.counts == {"clients": 1}


@ON_EACH
@pytest.mark.parametrize(
    ("header", "count"),
    [
        (b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n", "clients"),
        (build_proxy_header(None, None), "clients"),
        (build_proxy_header(None, None, local=True), "local"),
        (V2[:12] + b"\x20\x11" + V2[14:], "local"),  # whatever its block says
    ],
)
def test_where_no_address_is_told_the_sockets_stay(engine: str, header: bytes, count: str) -> None:
    with behind(engine, Tells) as (where, wrapped), Peer(where) as client:
        client.send(header)
        assert asked(client, "peername") == repr(client.name)
        assert asked(client, "sockname") == asked(client, "proxy_sockname")
        assert wrapped.counts == {count: 1}


@ON_EACH
def test_clients_over_ipv6_and_unix_have_addresses_as_sockets_have_them(engine: str) -> None:
    with behind(engine, Tells) as (where, _), Peer(where) as six, Peer(where) as path:
        six.send(build_proxy_header(("2001:db8::1", 1), ("::1", 2)))
        assert asked(six, "peername") == repr(("2001:db8::1", 1, 0, 0))
        assert asked(six, "sockname") == repr(("::1", 2, 0, 0))
        path.send(build_proxy_header("/run/client", "@abstract"))
        assert asked(path, "peername") == repr("/run/client")
        assert asked(path, "sockname") == repr("@abstract")


@ON_EACH
def test_the_proxy_may_come_by_a_unix_socket(engine: str, tmp_path: Any) -> None:
    where = f"unix:{tmp_path}/s"
    with behind(engine, Tells, where), Peer(where) as client:
        client.send(V2)
        assert asked(client, "peername") == repr(CLIENT)


@ON_EACH
def test_bytes_behind_the_header_go_to_a_verb_in_order(engine: str) -> None:
    for service in (muxcore.Echo, _Declared, _Calls, _Paused, _OwnBuffer):
        with behind(engine, service) as (where, _), Peer(where) as client:
            client.send(V2 + b"one ")
            assert client.read(4) == b"one "
            client.send(b"two")
            assert client.read(3) == b"two"
            client.shutdown_write()
            client.read_eof()


class _Declared:
    verb = muxcore.Verb.ECHO

    def connection_lost(self, exc: BaseException | None) -> None:
        pass


class _Calls:
    def connection_made(self, transport: Any) -> None:
        transport.echo()


class _Paused:
    """Resumes in a later turn."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()
        transport.server.call_later(0.01, transport.resume_reading)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _OwnBuffer:
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.room = bytearray(3)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.room[:nbytes]))


@ON_EACH
def test_a_relay_behind_it_logs_the_client_and_passes_all_on(engine: str) -> None:
    records: list[Record] = []
    with Upstream() as upstream:
        relay = muxcore.Relay(upstream.address, access_log=records.append)
        with behind(engine, relay) as (where, _), Peer(where) as client:
            client.send(V1 + b"first ")
            with upstream.accept() as there:
                client.send(b"second")
                assert there.read(12) == b"first second"
                there.send(b"answer")
                assert client.read(6) == b"answer"
        eventually(lambda: len(records) == 1, "it is not logged")
    assert records[0].client == "192.0.2.7:4711"


@ON_EACH
def test_who_is_not_trusted_is_refused_and_told_of_at_a_bounded_rate(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    with behind(engine, Tells, trusted=["10.0.0.0/8", "::1"]) as (where, wrapped):
        for number in range(5):
            with Peer(where) as client:
                client.read_end()
            assert wrapped.counts == {"untrusted": number + 1}
    told = [r.getMessage() for r in caplog.records if "not trusted" in r.getMessage()]
    assert len(told) == 1
    assert EVERY == 10.0


@ON_EACH
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 \n2026 ERROR all is lost 1 2\r\n" + bytes(10),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
        V2[:30] + b"\xff" + V2[31:],
        V2[:14] + b"\xff\xff",
    ],
)
def test_a_malformed_header_closes_the_connection_and_puts_nothing_into_the_log(
    engine: str, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with behind(engine, Tells) as (where, wrapped), Peer(where) as client:
        client.send(sent)
        client.read_end()
        assert wrapped.counts == {"malformed": 1}
    (told,) = [r.getMessage() for r in caplog.records if "is closed" in r.getMessage()]
    assert told.isprintable()
    assert len(told) < 300


@ON_EACH
def test_a_header_has_a_limit_in_time_and_in_size(engine: str) -> None:
    with behind(engine, Tells, timeout=0.05, max_header=100) as (where, wrapped):
        for sent in (b"", V2[:-1], b"PROXY TCP4"):
            with Peer(where) as client:
                client.send(sent)
                client.read_end()
        with Peer(where) as client:
            client.send(build_proxy_header(CLIENT, TO, tlvs=[(4, bytes(80))]))
            client.read_end()
        assert wrapped.counts == {"late": 3, "malformed": 1}
    with behind(engine, Tells) as (where, wrapped):
        with Peer(where) as client:
            client.send(V2[:-1])
            client.shutdown_write()
            client.read_end()
        with Peer(where) as client:
            client.send(V2[:-1])
            client.reset()
        eventually(lambda: wrapped.counts == {"ended": 2}, "a reset is counted nowhere")


@ON_EACH
def test_a_service_that_fails_costs_its_client_alone(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    def service() -> Any:
        if fails:
            raise RuntimeError("it has had enough")
        return Tells()

    fails = True
    with behind(engine, service) as (where, _):
        with Peer(where) as client:
            client.send(V2 + b"peername\n")
            client.read_end()
        fails = False
        with Peer(where) as client:
            client.send(V2)
            assert asked(client, "peername") == repr(CLIENT)
    assert "its client is refused" in caplog.text


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"trusted": []}, ValueError, "nobody could send a header"),
        ({"trusted": "10.0.0.0/8"}, TypeError, "give a list"),
        (
            {"trusted": ["10.0.0.1/8"]},
            ValueError,
            "not '10.0.0.1/8': .* has host bits set",
        ),
        ({"trusted": ["everybody"]}, ValueError, "such as '10.0.0.0/8', or 'unix', not 'every"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": "3"}, TypeError, "needs a number of seconds"),
        ({"max_header": 15}, ValueError, "max_header must be from 16"),
        ({"max_header": 1e3}, TypeError, "no whole number"),
    ],
)
def test_what_cannot_work_is_refused(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        muxcore.BehindProxy(Tells, **{"trusted": LOCALLY} | options)


def test_what_the_service_brings_holds() -> None:
    relay = muxcore.Relay("a:1", max_connections=7)
    wrapped = muxcore.BehindProxy(relay, trusted=LOCALLY)
    assert wrapped.limits == {"connections": 7}
    assert wrapped.requires == {"connect", "relay", "timers"}
    assert repr(wrapped) == "BehindProxy(Relay('a:1'))"

    async def coroutine() -> None:
        pass

    for nonsense in (coroutine, 7):
        with pytest.raises(muxcore.ServiceError):
            muxcore.Server(muxcore.BehindProxy(nonsense, trusted=LOCALLY), "127.0.0.1:0")


# -- to upstreams


def _taken(there: Peer, header: bytes) -> ProxyHeader:
    got = there.read(len(header))
    found = proxy_header(got)
    assert found is not None
    assert found.size == len(header)
    return found


def _relays(how: str, pool: muxcore.Pool) -> Any:
    if how == "service":
        return muxcore.Relay(pool)

    class Relays:
        def connection_made(self, transport: Any) -> None:
            transport.relay(pool, first=b"first ")

    return Relays


@ON_EACH
@pytest.mark.parametrize("send", ["v1", "v2", "v2-crc32c"])
@pytest.mark.parametrize("how", ["service", "protocol"])
def test_an_upstream_is_told_who_the_client_is_before_all_else(
    engine: str, send: str, how: str
) -> None:
    with refusing() as dead, Upstream() as upstream:
        pool = muxcore.Pool(dead, upstream.address, send_proxy=send)
        service = _relays(how, pool)
        with muxcore.Server(service, "127.0.0.1:0", engine=engine, allow_threads=True) as server:
            for _ in range(2):
                with Peer(server.addresses[0]) as client, upstream.accept() as there:
                    client.send(b"hello")
                    wanted = build_proxy_header(
                        *(client.name, client.sock.getpeername()),
                        version=1 if send == "v1" else 2,
                        checksum=send == "v2-crc32c",
                    )
                    assert there.read(len(wanted)) == wanted
                    first = b"first " if how == "protocol" else b""
                    assert there.read(len(first) + 5) == first + b"hello"
                    there.send(b"answer")
                    assert client.read(6) == b"answer"


@ON_EACH
@pytest.mark.parametrize("how", ["service", "protocol"])
def test_what_a_proxy_has_told_is_told_on(engine: str, how: str) -> None:
    with Upstream() as upstream:
        pool = muxcore.Pool(muxcore.Upstream(upstream.address, send_proxy="v2-crc32c"))
        with behind(engine, _relays(how, pool)) as (where, _):
            tlvs = [(2, b"a.example"), (5, b"id")]
            wanted = build_proxy_header(CLIENT, TO, tlvs=tlvs, checksum=True)
            with Peer(where) as client:
                client.send(V2)
                with upstream.accept() as there:
                    assert _taken(there, wanted) == proxy_header(wanted)
            own = build_proxy_header(None, None, local=True, checksum=True)
            with Peer(where) as client:
                client.send(build_proxy_header(None, None, local=True))
                with upstream.accept() as there:
                    assert there.read(len(own)) == own


@ON_EACH
@pytest.mark.parametrize(
    ("send", "header"),
    [
        ("v1", b"PROXY UNKNOWN\r\n"),
        ("v2", build_proxy_header(None, None, local=True)),
    ],
)
def test_a_check_says_that_it_is_one(engine: str, send: str, header: bytes) -> None:
    check = muxcore.Check(every=0.02, timeout=60, send=b"PING", expect=b"PONG")
    with Upstream() as upstream:
        pool = muxcore.Pool(upstream.address, send_proxy=send, check=check)
        server = muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine)
        with server, upstream.accept() as there:
            assert there.read(len(header) + 4) == header + b"PING"
            there.send(b"PONG")
            there.read_end()


def test_a_header_that_does_not_exist_is_refused() -> None:
    for make in (muxcore.Pool, muxcore.Upstream):
        with pytest.raises(ValueError, match="send_proxy must be one of v1, v2, v2-crc32c"):
            make("a:1", send_proxy="v3")  # type: ignore[operator]


def test_a_worker_makes_both_anew() -> None:
    wrapped = muxcore.BehindProxy(Tells, trusted=["10.0.0.0/8"], timeout=7)
    made = pickle.loads(pickle.dumps(wrapped))
    assert (made.service, made.timeout, made.trusted.texts) == (Tells, 7, ("10.0.0.0/8",))
    one = muxcore.Upstream("a:1", send_proxy="v1")
    pool = pickle.loads(pickle.dumps(muxcore.Pool(one, "b:1", send_proxy="v2", eject_after=3)))
    assert pool.send_proxy == "v2"
    assert [each.send_proxy for each in pool.upstreams] == ["v1", None]
    assert pool.trials is not None
