"""Who may come, how many at once, and how fast: on every engine that can, and by a test's clock."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import muxcore
from muxcore.parsers import build_proxy_header
from muxcore.parts import dispatch
from muxcore.services.guard.door import Door
from muxcore.services.guard.sources import Sources
from muxcore.services.networks import Networks, source_of
from muxcore.services.relay import Record
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream
from tests.usual import usual

_ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and {"shared_state", "timers"} <= info.capabilities
]
ON_EACH = pytest.mark.parametrize("engine", usual(_ENGINES, ("native-epoll", "pure-select")))
ON_ALL = pytest.mark.parametrize("engine", _ENGINES)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A connection, as far as a door is concerned."""

    def __init__(self, peername: Any = ("192.0.2.1", 1)) -> None:
        self.peername = peername
        self.witness: Any = None
        self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peername if name == "peername" else default

    def add_witness(self, witness: Any) -> None:
        self.witness = witness

    def abort(self) -> None:
        self.ended = True

    def leaves(self) -> None:
        self.witness.connection_lost(None)


def door_of(**given: Any) -> tuple[Door, Clock]:
    clock = Clock()
    told = dict(muxcore.Guard(muxcore.Echo)._door.given)
    return Door(told | given, clock), clock


def entered(door: Door, *hosts: str) -> list[Client]:
    """Let so many in; fail where one is refused."""
    clients = [Client((host, 1)) for host in hosts]
    assert all(door.lets_in(each) for each in clients), door.counts
    return clients


def refused(door: Door, host: Any = "192.0.2.1") -> bool:
    client = Client(host if host is None or not host else (host, 1))
    let_in = door.lets_in(client)
    assert client.ended is not let_in
    return not let_in


# -- who


@pytest.mark.parametrize(
    ("allow", "deny", "peer", "may"),
    [
        ((), (), ("192.0.2.1", 1), True),
        ((), (), "", True),
        (["192.0.2.0/24"], (), ("192.0.2.255", 1), True),
        (["192.0.2.0/24"], (), ("192.0.3.0", 1), False),
        (["192.0.2.0/24"], (), ("::ffff:192.0.2.7", 1, 0, 0), True),
        (["192.0.2.0/24"], (), ("2001:db8::1", 1, 0, 0), False),
        (["192.0.2.0/24"], (), "", False),
        (["192.0.2.0/24", "unix"], (), "/run/x", True),
        (["2001:db8::/32"], (), ("2001:db8:ffff::%eth0", 1, 0, 0), True),
        (["0.0.0.0/0"], (), None, False),
        ((), ["192.0.2.0/24"], ("192.0.2.1", 1), False),
        ((), ["192.0.2.0/24"], ("192.0.3.1", 1), True),
        ((), ["unix"], "", False),
        (["192.0.0.0/16"], ["192.0.2.1"], ("192.0.2.1", 1), False),
        (["192.0.2.1"], ["192.0.0.0/16"], ("192.0.2.1", 1), False),  # deny has the last word
    ],
)
def test_whoever_may_come_does(allow: Any, deny: Any, peer: Any, may: bool) -> None:
    door, _ = door_of(allow=allow, deny=deny)
    assert door.lets_in(Client(peer)) is may
    assert door.counts == ({"accepted": 1} if may else {"denied": 1})


_HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda ip: not ip.ipv4_mapped))
_NETWORKS = st.builds(
    lambda ip, cut: ipaddress.ip_network((ip, max(0, ip.max_prefixlen - cut)), strict=False),
    _HOSTS,
    st.integers(0, 128),
)


@given(st.lists(_NETWORKS, max_size=5), _HOSTS)
def test_networks_have_those_that_the_standard_library_says_they_have(
    networks: list[Any], host: Any
) -> None:
    wanted = any(host in each for each in networks)
    found = Networks("Guard", "allow", [str(each) for each in networks]).have((str(host), 1))
    assert found is wanted


def test_a_source_is_an_address_or_what_a_customer_has_of_ipv6() -> None:
    one = source_of(("2001:db8:1:2::1", 1, 0, 0))
    assert one == source_of(("2001:db8:1:2:ffff::9", 2, 0, 0))
    assert one != source_of(("2001:db8:1:3::1", 1, 0, 0))
    assert source_of(("192.0.2.1", 1)) == source_of(("::ffff:192.0.2.1", 2, 0, 0))
    assert source_of(("192.0.2.1", 1)) != source_of(("192.0.2.2", 1))
    assert len({source_of(""), source_of(None), source_of(("192.0.2.1", 1)), one}) == 4
    assert source_of("") == source_of("/run/x")


# -- how many


def test_as_many_are_in_as_there_may_be_and_who_leaves_makes_room() -> None:
    door, _ = door_of(connections=2)
    first, _ = entered(door, "192.0.2.1", "192.0.2.2")
    assert refused(door)
    first.leaves()
    entered(door, "192.0.2.3")
    assert refused(door)
    assert door.active == 2
    assert door.counts == {"accepted": 3, "connections": 2}


def test_so_many_come_in_a_second_and_who_is_refused_takes_no_turn() -> None:
    door, clock = door_of(rate=2)
    entered(door, "192.0.2.1", "192.0.2.1")
    for _ in range(50):
        assert refused(door)
    clock.now += 0.5
    entered(door, "192.0.2.1")
    assert refused(door)
    assert door.counts == {"accepted": 3, "rate": 51}


def test_each_source_has_limits_of_its_own() -> None:
    door, clock = door_of(source_connections=2, source_rate=1)
    entered(door, "192.0.2.1", "192.0.2.2")
    assert refused(door)
    clock.now += 1
    one, *_ = entered(door, "192.0.2.1", "192.0.2.2")
    clock.now += 1
    assert refused(door)
    one.leaves()
    entered(door, "192.0.2.1")
    assert door.counts == {"accepted": 5, "source_rate": 1, "source_connections": 1}
    assert door.active == 4


def test_who_is_refused_for_its_source_takes_nothing_from_the_others() -> None:
    door, _ = door_of(rate=3, connections=10, source_rate=1)
    entered(door, "192.0.2.1")
    for _ in range(50):
        assert refused(door)
    entered(door, "192.0.2.2", "192.0.2.3")
    assert refused(door, "192.0.2.4")
    assert door.counts["rate"] == 1


# -- the table


def test_the_table_has_an_end_and_newcomers_share_an_entry_where_it_is_full() -> None:
    door, _ = door_of(source_connections=2, sources=3)
    entered(door, "192.0.2.1", "192.0.2.2", "192.0.2.3")
    entered(door, "192.0.2.11", "192.0.2.12")
    assert refused(door, "192.0.2.13")  # two of those who share are in
    entered(door, "192.0.2.1")  # who is known has a limit of its own
    assert refused(door, "192.0.2.1")
    assert len(door.sources) == 3


def test_those_who_share_an_entry_leave_it_and_it_stays() -> None:
    door, clock = door_of(source_connections=1, sources=1)
    (known,) = entered(door, "192.0.2.1")
    for number in range(3):
        entered(door, f"192.0.2.{11 + number}")[0].leaves()
    known.leaves()
    clock.now += 1
    entered(door, "192.0.2.14")
    entered(door, "192.0.2.15")
    assert refused(door, "192.0.2.16")


def test_many_addresses_lift_the_limit_of_nobody() -> None:
    door, clock = door_of(source_connections=2, source_rate=0.1, sources=8)
    entered(door, "192.0.2.1")  # its rate is used up for ten seconds
    clock.now += 1
    for number in range(1000):
        client = Client((f"198.51.{number // 250}.{number % 250}", 1))
        if door.lets_in(client):
            client.leaves()
    assert refused(door, "192.0.2.1")
    assert len(door.sources) == 8
    assert door.active == 1


def test_whoever_was_away_longest_is_forgotten_first_and_only_with_a_full_bucket() -> None:
    door, clock = door_of(source_rate=1, sources=2)
    first, second = entered(door, "192.0.2.1", "192.0.2.2")
    second.leaves()
    first.leaves()
    clock.now += 0.5
    entered(door, "192.0.2.3")  # shares: nobody may be forgotten yet
    assert len(door.sources) == 2
    assert refused(door, "192.0.2.4")
    assert refused(door, "192.0.2.1")
    clock.now += 0.5
    entered(door, "192.0.2.3")[0].leaves()
    assert len(door.sources) == 1  # both are gone: the table shrinks by itself


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 1)), max_size=60))
def test_whatever_comes_the_table_keeps_its_end_and_its_counts(
    steps: list[tuple[int, bool, float]],
) -> None:
    door, clock = door_of(source_connections=3, source_rate=2, sources=4, connections=12)
    inside: list[Client] = []
    for number, comes, wait in steps:
        clock.now += wait
        client = Client((f"192.0.2.{number}", 1))
        if comes:
            if door.lets_in(client):
                inside.append(client)
        elif inside:
            inside.pop(number % len(inside)).leaves()
        known = door.sources._known
        assert len(known) <= 4
        assert door.active == len(inside) <= 12
        for key, source in known.items():
            assert source.active == sum(each.witness is source for each in inside)
            assert (key in door.sources._idle) is (source.active == 0)
            assert source.active <= 3
    for client in inside:
        client.leaves()
    assert door.active == door.sources.others.active == 0


def test_a_source_costs_no_more_than_is_said() -> None:
    import tracemalloc

    sources = Sources(door_of()[0], 100_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20_000):
            sources.entered(sources.of(number.to_bytes(4), 1.0))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 20_000 < 320


# -- changes


def test_a_change_keeps_who_is_in_and_what_is_counted() -> None:
    guard = muxcore.Guard(muxcore.Echo, connections=1, source_connections=5)
    door = guard.around(muxcore.Discard)._door
    entered(door, "192.0.2.1")
    assert refused(door)
    guard.change(connections=3, source_connections=2, deny=iter(["192.0.2.9"]))
    entered(door, "192.0.2.1")
    assert refused(door, "192.0.2.1")
    assert refused(door, "192.0.2.9")
    assert guard.active == 2
    assert guard.counts == {
        "accepted": 2,
        "connections": 1,
        "source_connections": 1,
        "denied": 1,
    }
    with pytest.raises(ValueError, match=r"Guard\(rate=0\)"):
        guard.change(connections=50, rate=0)
    with pytest.raises(TypeError, match=r"Guard.change\(speed=…\): there are allow, deny, conn"):
        guard.change(speed=3)
    assert door.rules.connections == 3


@pytest.mark.parametrize("name", ["rate", "source_rate"])
def test_a_rate_that_is_raised_holds_at_once(name: str) -> None:
    door, clock = door_of(**{name: 0.001})
    entered(door, "192.0.2.1")
    assert refused(door)
    door.change({name: 10})
    assert refused(door)
    clock.now += 0.2
    entered(door, "192.0.2.1", "192.0.2.1")
    assert refused(door)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"allow": "10.0.0.0/8"}, TypeError, r"give a list, such as \['10.0.0.0/8'\]"),
        ({"deny": ["10.0.0.1/8"]}, ValueError, r"Guard\(deny=…\): .* has host bits set"),
        ({"connections": 0}, ValueError, "connections must be a whole number from 1"),
        ({"source_connections": 1.5}, ValueError, "source_connections must be a whole number"),
        ({"source_rate": -1}, ValueError, "source_rate must be connections a second"),
        ({"sources": 0}, ValueError, "sources must be a whole number"),
        ({"refuse": "drop"}, ValueError, "refuse must be 'close' or 'reset', not 'drop'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        muxcore.Guard(muxcore.Echo, **settings)


def test_of_several_workers_each_has_an_even_share_and_what_sources_may_stays() -> None:
    guard = muxcore.Guard(
        muxcore.BehindProxy(
            muxcore.Guard(muxcore.Echo, connections=2, source_connections=7), trusted=["unix"]
        ),
        connections=10,
        rate=8,
        source_rate=3,
    )
    shares = [dispatch.share_of(guard, number, 4) for number in range(1, 5)]
    assert [each._door.rules.connections for each in shares] == [3, 3, 2, 2]
    inner = [each.service.service for each in shares]
    assert [each._door.rules.connections for each in inner] == [1, 1, 1, 1]  # one at least
    assert {each._door.rules.source_connections for each in inner} == {7}
    assert {each._door.rules.rate.rate for each in shares} == {2}
    assert {each._door.rules.source_rate.rate for each in shares} == {3}
    assert "shared_state" in guard.requires
    assert "shared_state" not in shares[0].requires
    made = pickle.loads(pickle.dumps(guard))
    assert made._door.given == guard._door.given
    assert made._door.lets_in(Client())


def test_a_guard_around_two_services_is_shared_out_once() -> None:
    guard = muxcore.Guard(muxcore.Echo, connections=4)
    both = pickle.loads(pickle.dumps((guard, guard.around(muxcore.Discard))))
    ours, others = (dispatch.share_of(each, 1, 2) for each in both)
    assert [each.service for each in (ours, others)] == [muxcore.Echo, muxcore.Discard]
    assert [each._door.lets_in(Client()) for each in (ours, others, ours)] == [True, True, False]
    assert both[0].active == 0
    guard.share_of(1, 2)
    guard.change(connections=2)
    assert guard.share_of(1, 2)._door.rules.connections == 1


def test_a_guard_that_counts_needs_all_connections_in_one_process() -> None:
    def make(guard: muxcore.Guard) -> muxcore.Server:
        return muxcore.Server(guard, "127.0.0.1:0", engine="pure-process")

    with pytest.raises(muxcore.CapabilityMissing, match="requires shared_state"):
        make(muxcore.Guard(muxcore.Echo, source_connections=3))
    make(muxcore.Guard(muxcore.Echo, allow=["10.0.0.0/8"]))


# -- on engines


@contextlib.contextmanager
def served(
    engine: str, service: Any, where: str = "127.0.0.1:0", **settings: Any
) -> Iterator[tuple[str, muxcore.Guard]]:
    guard = muxcore.Guard(service, **settings)
    with muxcore.Server(guard, where, engine=engine) as server:
        yield server.addresses[0], guard
        eventually(lambda: guard.active == 0, "one is still counted")
        assert not server._engine.witnesses


def left_out(where: str) -> int:
    """Come, and be refused; return the errno of that, 0: in order."""
    try:
        with Peer(where) as client:
            return 0 if client.sock.recv(1) == b"" else -1
    except OSError as exc:
        return exc.errno or -1


class Plain:
    """A protocol that answers."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Moves(Plain):
    """Lets another protocol have the connection."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        other = Plain()
        other.connection_made(self.transport)
        self.transport.set_protocol(other)


class Forgets(Plain):
    """Is nobody's protocol in the end."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.set_protocol(None)


@ON_ALL
@pytest.mark.parametrize("service", [muxcore.Echo, Plain, Moves, Forgets])
def test_whoever_has_a_connection_its_end_is_counted_once(engine: str, service: Any) -> None:
    with served(engine, service, source_connections=2) as (where, guard):
        for round_ in range(3):
            with Peer(where) as one, Peer(where) as other:
                for peer in (one, other):
                    peer.send(b"x")
                    assert peer.read(1) == b"x"
                assert left_out(where) == 0
                assert guard.active == 2
                if round_ == 2:
                    one.reset()
            eventually(lambda: guard.active == 0, "one is still counted")
        assert guard.counts == {"accepted": 6, "source_connections": 3}


@ON_ALL
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("trials", [{}, {"eject_after": 3, "first_byte_timeout": 60}])
def test_a_pairs_end_is_counted_once(engine: str, log: bool, trials: dict[str, Any]) -> None:
    records: list[Record] = []
    with Upstream() as upstream:
        pool = muxcore.Pool(upstream.address, **trials)
        relay = muxcore.Relay(pool, access_log=records.append if log else None)
        with served(engine, relay, connections=1) as (where, guard):
            for number in range(4):
                with Peer(where) as client, upstream.accept() as there:
                    client.send(b"hello")
                    assert there.read(5) == b"hello"
                    there.send(b"answer")
                    assert client.read(6) == b"answer"
                    assert guard.active == 1
                    assert left_out(where) == 0
                    if number == 1:
                        there.reset()
                    elif number == 2:
                        client.reset()
                eventually(lambda: guard.active == 0, "it is still counted")
            assert guard.counts == {"accepted": 4, "connections": 4}
        assert pool.upstreams[0].active == 0
    assert len(records) == (4 if log else 0)


@ON_EACH
def test_the_outer_judges_the_socket_and_the_inner_one_the_client(engine: str) -> None:
    inner = muxcore.Guard(muxcore.Echo, deny=["192.0.2.0/24"], source_connections=1)
    behind = muxcore.BehindProxy(inner, trusted=["127.0.0.0/8"], timeout=60)
    with served(engine, behind, allow=["127.0.0.1"]) as (where, outer):
        with Peer(where) as one, Peer(where) as two, Peer(where) as three, Peer(where) as four:
            one.send(build_proxy_header(("198.51.100.1", 1), ("203.0.113.1", 2)) + b"one")
            assert one.read(3) == b"one"
            two.send(build_proxy_header(("192.0.2.1", 1), ("203.0.113.1", 2)))
            two.read_end()
            three.send(build_proxy_header(("198.51.100.1", 9), ("203.0.113.1", 2)))
            three.read_end()
            four.send(build_proxy_header(("198.51.100.2", 9), ("203.0.113.1", 2)) + b"x")
            assert four.read(1) == b"x"
            assert inner.counts == {"accepted": 2, "denied": 1, "source_connections": 1}
            assert (inner.active, outer.counts) == (2, {"accepted": 4})
        eventually(lambda: inner.active == 0, "the inner one still counts")
        outer.change(deny=["127.0.0.1"])
        assert left_out(where) == 0
        assert behind.counts["clients"] == 4


@ON_EACH
def test_a_refusal_is_an_end_or_a_reset_as_it_is_wanted(engine: str) -> None:
    for refuse, wanted in (("close", {0}), ("reset", {errno.ECONNRESET})):
        with served(engine, muxcore.Echo, deny=["127.0.0.1"], refuse=refuse) as (where, guard):
            assert {left_out(where) for _ in range(5)} == wanted
            assert guard.counts == {"denied": 5}


@ON_EACH
def test_refusals_are_told_of_at_a_bounded_rate(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(engine, muxcore.Echo, deny=["127.0.0.0/8"]) as (where, _):
        for _ in range(5):
            left_out(where)
    (told,) = [r.getMessage() for r in caplog.records if "is refused" in r.getMessage()]
    assert told.startswith("connection from 127.0.0.1:")
    assert told.endswith("is refused: it may not come from there")


@ON_EACH
def test_a_service_hears_of_its_server_and_of_its_end(engine: str) -> None:
    heard: list[str] = []

    class Hears:
        def __call__(self) -> Any:
            return Plain()

        def server_started(self, server: Any) -> None:
            heard.append("started")

        def server_ended(self) -> None:
            heard.append("ended")

    with served(engine, muxcore.BehindProxy(Hears(), trusted=["unix"])):
        eventually(lambda: heard == ["started"], "it hears nothing")
    assert heard == ["started", "ended"]


@ON_EACH
def test_a_service_that_fails_is_counted_to_its_end(engine: str) -> None:
    def fails() -> Any:
        raise LookupError("there is nothing to serve")

    with served(engine, fails, connections=5) as (where, guard):
        for _ in range(3):
            assert left_out(where) in (0, errno.ECONNRESET)
        eventually(lambda: guard.active == 0, "one is still counted")
        assert guard.counts == {"accepted": 3}


@ON_EACH
def test_all_of_a_unix_socket_are_one_source(engine: str, tmp_path: Any) -> None:
    where = f"unix:{tmp_path}/s"
    with served(engine, muxcore.Echo, where, source_connections=1) as (address, guard):
        with Peer(address) as client:
            client.send(b"x")
            assert client.read(1) == b"x"
            assert left_out(address) in (0, errno.ECONNRESET, errno.EPIPE)
        assert guard.counts == {"accepted": 1, "source_connections": 1}
