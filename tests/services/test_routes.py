"""Which route a client takes, by bytes that come in any pieces: no engine is needed for that."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import muxcore
from muxcore.services.router.heard import Heard
from muxcore.services.router.plan import Plan
from tests.parsers.hellos import alpn, hello, named, real, records

POOLS = {name: muxcore.Pool(f"{name}:1") for name in "abcdefgh"}


def route(name: str, **given: Any) -> muxcore.Route:
    return muxcore.Route(POOLS[name], **given)


def plan_of(*routes: muxcore.Route) -> Plan:
    return muxcore.Router(*routes, default=POOLS["h"]).plan


def name_of(found: muxcore.Route | None) -> str:
    return next((name for name, pool in POOLS.items() if found and pool is found.pool), "")


def taken(plan: Plan, data: bytes, cuts: list[int] | None = None) -> tuple[str, int]:
    """Return the route of a client, "" being none; and after how many bytes that was known.

    Args:
        data: all that it says before it ends.
        cuts: where the pieces begin in which it comes; None: byte by byte.
    """
    heard = Heard()
    places = range(1, len(data)) if cuts is None else sorted({each % len(data) for each in cuts})
    decided: tuple[str, int] | None = None
    begin = 0
    for end in (*places, len(data)):
        is_known, found = plan.route_of(heard)
        if is_known and decided is None:
            decided = name_of(found), begin
        assert decided is None or (is_known and name_of(found) == decided[0]), "another one later"
        heard.add(data[begin:end])
        begin = end
    is_known, found = plan.route_of(heard)
    if is_known and decided is None:
        decided = name_of(found), len(data)
    heard.end()
    is_known, found = plan.route_of(heard)
    assert is_known
    assert decided is None or decided[0] == name_of(found)
    return decided or (name_of(found), len(data) + 1)


EVERY = plan_of(
    route("a", starts_with=[b"MAGIC ", b"\x16\x03\x07"]),
    route("b", tls_name=["Example.com", "*.example.com"], alpn="h2"),
    route("c", tls_name=["*.example.com", "other.example"]),
    route("d", alpn=["h2", "postgresql"]),
    route("e", protocol=["ssh", "postgres"]),
    route("f", protocol="tls"),
    route("g", starts_with=b"GET /g", protocol="http"),
)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (real("example.com", alpn=("h2",)), "b"),
        (real("WWW.example.COM", alpn=("http/1.1", "h2")), "b"),
        (real("www.example.com"), "c"),
        (real("www.www.example.com"), "f"),  # a star is one label, as in certificates
        (real("example.com"), "f"),
        (real("other.example"), "c"),
        (records(hello(named(b"other.example."))), "c"),  # the root's dot
        (real("third.example", alpn=("h2",)), "d"),
        (real(None, alpn=("postgresql",)), "d"),
        (real(None), "f"),
        (records(hello(alpn(b"h2") + named(b"x.example.com")), 7), "b"),
        (b"\x16\x03\x01\x00\x00whatever", "f"),  # malformed: no name is known
        (b"\x16\x03\x07", "a"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "e"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "e"),
        (b"MAGIC word", "a"),
        (b"GET /g HTTP/1.1\r\n\r\n", "g"),
        (b"GET / HTTP/1.1\r\n\r\n", ""),
        (b"\x00\x00", ""),
        (b"", ""),
    ],
)
def test_the_first_route_that_matches_has_the_client_however_its_bytes_come(
    data: bytes, wanted: str
) -> None:
    for cuts in (None, [], [1, 3, 6, 200]) if data else ([],):
        if data:
            assert taken(EVERY, data, cuts)[0] == wanted
    heard = Heard()
    heard.add(data)
    heard.end()
    assert name_of(EVERY.route_of(heard)[1]) == wanted


_HELLOS = st.builds(
    lambda name, protocols, size: records(
        hello(named(name) + (alpn(*protocols) if protocols else b"")), size
    ),
    st.sampled_from([b"example.com", b"x.example.com", b"a.x.example.com", b"q", b"OTHER.example"]),
    st.lists(st.sampled_from([b"h2", b"http/1.1", b"postgresql"]), max_size=2),
    st.integers(5, 300),
)
_BYTES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda start, rest: start + rest,
        st.sampled_from([b"MAGIC", b"\x16\x03", b"\x16\x03\x07", b"GET /", b"SSH-", b"\0\0\0\x08"]),
        st.binary(max_size=30),
    ),
    _HELLOS,
    st.builds(lambda data, end: data[: end % (len(data) + 1)], _HELLOS, st.integers(0, 400)),
    st.builds(
        lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
        _HELLOS,
        st.integers(0, 400),
        st.integers(0, 255),
    ),
)
_CUTS = st.lists(st.integers(1, 500), max_size=8)
_ROUTES = st.lists(
    st.builds(
        lambda name, *given: route(
            name, **dict(zip(("tls_name", "alpn", "starts_with", "protocol"), given, strict=True))
        ),
        st.sampled_from("abcdefg"),
        st.lists(st.sampled_from(["example.com", "*.example.com", "other.example"]), max_size=2),
        st.lists(st.sampled_from(["h2", "postgresql"]), max_size=1),
        st.lists(st.sampled_from([b"M", b"MAGIC", b"\x16\x03\x01", b"GET /g", b"\0"]), max_size=1),
        st.lists(st.sampled_from(["tls", "http", "ssh", "unknown"]), max_size=1),
    ),
    min_size=1,
    max_size=6,
)


def check_any_split(routes: list[muxcore.Route], data: bytes, cuts: list[int]) -> None:
    """Check that it is one route, however the bytes come, and the one that a plain look finds."""
    plan = plan_of(*routes)
    heard = Heard()
    heard.add(data)
    heard.end()
    wanted = name_of(next((each for each in routes if each._matches(heard)), None))
    assert name_of(plan.route_of(heard)[1]) == wanted
    if data:
        name, known = taken(plan, data)
        assert name == wanted
        assert taken(plan, data, cuts)[0] == wanted
        whole = Heard()
        whole.add(data[:known])
        assert plan.route_of(whole)[0] or known > len(data)


@given(_ROUTES, _BYTES, _CUTS)
def test_any_split_of_any_bytes_is_the_same_decision(
    routes: list[muxcore.Route], data: bytes, cuts: list[int]
) -> None:
    check_any_split(routes, data, cuts)


@pytest.mark.deep
@settings(max_examples=5_000)
@given(_ROUTES, st.one_of(_BYTES, st.binary(max_size=2000)), _CUTS)
def test_any_split_of_many_more_bytes_is_the_same_decision(
    routes: list[muxcore.Route], data: bytes, cuts: list[int]
) -> None:
    check_any_split(routes, data, cuts)


@pytest.mark.parametrize(
    ("routes", "data", "known"),
    [
        ([], b"x", 0),  # nothing has to be known
        ([route("a")], b"x", 0),
        ([route("a", tls_name="a.example")], b"hello", 1),  # the first byte is no TLS record's
        ([route("a", tls_name="a.example")], b"GET / HTTP/1.1\r\n", 1),  # whatever that may be
        ([route("a", tls_name="a.example")], b"\x16\x02", 2),
        ([route("a", starts_with=b"MAGIC")], b"MAMBO", 3),
        ([route("a", starts_with=b"MAGIC")], b"MAGICIAN", 5),
        ([route("a", protocol="ssh")], b"SSH-2.0", 4),
        ([route("a", protocol="tls"), route("b", tls_name="x")], b"\x16\x03\x01\x02", 2),
        ([route("a", tls_name="x", starts_with=b"\x17")], b"\x16\x03\x01\x02", 5),  # it waits
        ([route("b", starts_with=b"G"), route("a", tls_name="x")], b"GET", 1),
    ],
)
def test_no_more_is_waited_for_than_the_routes_need(
    routes: list[muxcore.Route], data: bytes, known: int
) -> None:
    assert taken(plan_of(*routes), data)[1] == known


def test_a_name_that_comes_later_waits_for_none_that_comes_first() -> None:
    plan = plan_of(route("a", starts_with=b"\x16\x03\x01"), route("b", tls_name="a.example"))
    assert taken(plan, real("a.example")) == ("a", 3)
    plan = plan_of(route("b", tls_name="a.example"), route("a", starts_with=b"\x16\x03\x01"))
    assert taken(plan, real("a.example"))[0] == "b"


def test_ten_thousand_names_take_no_longer_than_ten() -> None:
    def plan(count: int) -> Plan:
        names = (f"n{number}.example" for number in range(count))
        return plan_of(*(route("a", tls_name=each) for each in names), route("b"))

    heard = Heard()
    heard.add(real("n9.example"))

    def quickest(plan: Plan) -> float:
        times = []
        for _ in range(50):
            began = time.perf_counter()
            assert name_of(plan.route_of(heard)[1]) == "a"
            times.append(time.perf_counter() - began)
        return min(times)

    few, many = plan(10), plan(10_000)
    assert quickest(many) < 20 * quickest(few)  # a look at each would be a thousand times


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"tls_name": "bücher.example"}, ValueError, "A-labels"),
        ({"tls_name": "a.*.example"}, ValueError, "no TLS client can ask for that"),
        ({"tls_name": [b"a"]}, TypeError, "tls_name needs str"),
        ({"tls_name": ""}, ValueError, "it is empty; leave tls_name out"),
        ({"starts_with": "GET"}, TypeError, "starts_with needs bytes"),
        ({"starts_with": [b"a", b""]}, ValueError, "it is empty"),
        ({"protocol": "smtp"}, ValueError, "protocol must be one of tls, ssh, http, http2"),
    ],
)
def test_a_route_that_cannot_be_is_refused(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        route("a", **given)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: muxcore.Router(), ValueError, "everybody is refused"),
        (lambda: muxcore.Router(POOLS["a"]), TypeError, "give Routes"),
        (lambda: muxcore.Route("a:1"), TypeError, "give a Pool"),
        (lambda: muxcore.Router(default="a:1"), TypeError, "default needs a Pool"),
        (lambda: muxcore.Router(decide=len, pools={"a": "b:1"}), TypeError, "a needs a Pool"),
        (lambda: muxcore.Router(decide=3), TypeError, "decide must be callable"),
        (
            lambda: muxcore.Router(decide=len, default=POOLS["a"]),
            ValueError,
            "decide has the last word",
        ),
        (
            lambda: muxcore.Router(default=POOLS["a"], pools=POOLS),
            ValueError,
            "what decide may name",
        ),
        (
            lambda: muxcore.Router(route("a", starts_with=b"12345"), max_bytes=4),
            ValueError,
            "starts_with has 5 bytes",
        ),
        (lambda: muxcore.Router(route("a"), first_bytes=-1), ValueError, "first_bytes"),
        (lambda: muxcore.Router(route("a"), decide_timeout=0), ValueError, "must be above 0"),
        (lambda: muxcore.Router(route("a"), max_bytes=0), ValueError, "max_bytes"),
        (lambda: muxcore.Router(route("a"), idle_timeout=0), ValueError, r"Router\(idle_timeout=0"),
        (lambda: muxcore.Router(route("a"), access_log="xml"), ValueError, "access_log"),
    ],
)
def test_a_router_that_cannot_work_is_refused(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
