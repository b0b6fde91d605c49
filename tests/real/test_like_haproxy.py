"""What docs/from-a-proxy.md says is the same here: each scenario with HAProxy, and with a relay.

Beside each other stand what the two are told.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE
from muxcore.testing.suite import eventually
from tests.parsers import hellos

from .programs import Program
from .proxies import Both, Health, Named, Proxy, haproxy, relay

pytestmark = pytest.mark.real


@pytest.fixture
def servers() -> Iterator[tuple[Named, Named, Named]]:
    made = Named("a"), Named("b"), Named("c")
    yield made
    for each in made:
        each.stop()


@pytest.fixture
def dead() -> Iterator[str]:
    """An address where nobody listens, until somebody does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture(params=["haproxy", "muxcore"])
def proxy(
    request: pytest.FixtureRequest,
    start: Callable[..., Program],
    servers: tuple[Named, ...],
    dead: str,
) -> Callable[..., Proxy]:
    """Start either; in what it is told A, B, C and DEAD stand for addresses."""

    def begin(both: Both, **more: str) -> Proxy:
        text = getattr(both, request.param)
        words = {each.name.upper(): each.address for each in servers} | {"DEAD": dead} | more
        for word, its in words.items():
            text = text.replace(f"<{word}>", its)
        return (haproxy if request.param == "haproxy" else relay)(start, text)

    return begin


def _pool(text: str) -> str:
    return f'pool = "p"\n[pools.p]\n{text}'


def test_turns_are_by_weight(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "server a <A> weight 3\nserver b <B>",
            _pool('upstreams = [{address = "<A>", weight = 3}, "<B>"]'),
        )
    )
    assert it.names(12) == {"a": 9, "b": 3}


def test_who_has_fewest_clients_gets_the_next(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "balance leastconn\nserver a <A>\nserver b <B>\nserver c <C>",
            _pool('policy = "least-connections"\nupstreams = ["<A>", "<B>", "<C>"]'),
        )
    )
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(it.client())[1] for _ in range(6)]
    assert sorted(names) == ["a", "a", "b", "b", "c", "c"]


def test_the_first_one_with_a_place_has_it(
    proxy: Callable[..., Proxy], servers: tuple[Named, ...]
) -> None:
    it = proxy(
        Both(
            "balance first\nserver a <A> maxconn 2\nserver b <B> maxconn 2",
            _pool('policy = "first"\nmax_active = 2\nupstreams = ["<A>", "<B>"]'),
        )
    )
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(it.client())[1] for _ in range(3)]
        assert names == ["a", "a", "b"]
    eventually(lambda: servers[0].active == 0, "it has clients that went")
    eventually(lambda: it.names(1) == {"a": 1}, "its places are not free")


def test_an_address_has_always_the_same_one(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "balance source\nhash-type consistent\nserver a <A>\nserver b <B>\nserver c <C>",
            _pool('policy = "source"\nupstreams = ["<A>", "<B>", "<C>"]'),
        )
    )
    assert len(it.names(6)) == 1


def test_a_backup_serves_while_no_other_does(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "server a <DEAD> check inter 50ms fall 1\nserver b <B> backup",
            _pool(
                'check = {every = "50ms", fall = 1}\n'
                'upstreams = ["<DEAD>", {address = "<B>", backup = true}]'
            ),
        )
    )
    eventually(lambda: it.gives_only("b"), "the backup does not serve")


def test_who_refuses_costs_no_client(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "retries 1\noption redispatch 1\nserver a <DEAD>\nserver b <B>",
            _pool('upstreams = ["<DEAD>", "<B>"]'),
        )
    )
    assert it.names(5) == {"b": 5}


def test_a_server_that_restarts_costs_no_client(
    proxy: Callable[..., Proxy], servers: tuple[Named, ...]
) -> None:
    with socket.socket() as down:
        down.bind(("127.0.0.1", 0))
        it = proxy(
            Both("retries 100\nserver a <DOWN>", _pool('retry_for = "100s"\nupstreams = "<DOWN>"')),
            DOWN=f"127.0.0.1:{down.getsockname()[1]}",
        )
        with Peer(it.address) as client:
            client.pause(0.3)  # it has been refused by then, or comes later: both will do
            down.settimeout(DEADLINE)
            down.listen()
            there, _ = down.accept()
            with there:
                there.sendall(b"x")
                assert client.read(1) == b"x"


def test_who_finds_no_place_waits_for_one(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "server a <A> maxconn 1",
            _pool('max_active = 1\nqueue = 9\nqueue_timeout = "600s"\nupstreams = "<A>"'),
        )
    )
    with it.client() as (_, name):
        assert name == "a"
        waits = Peer(it.address)
        waits.send(b"early")
        waits.pause(0.1)
        assert not waits.readable()
    assert waits.read(6) == b"aearly"
    waits.close()


def test_who_has_waited_too_long_is_turned_away(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "timeout queue 100ms\nserver a <A> maxconn 1",
            _pool('max_active = 1\nqueue = 9\nqueue_timeout = "100ms"\nupstreams = "<A>"'),
        )
    )
    with it.client():
        assert it.is_refused()


def test_beyond_the_cap_of_all_a_client_waits_outside(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "maxconn 1\nserver a <A>",
            f'{_pool("upstreams = ")}"<A>"\n[server.limits]\nconnections = 1',
        )
    )
    with it.client():
        waits = Peer(it.address)
        waits.pause(0.1)
        assert not waits.readable()
    assert waits.read(1) == b"a"
    waits.close()


def test_a_check_says_one_thing_after_another(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            """\
option tcp-check
tcp-check expect string a
tcp-check send ping\\n
tcp-check expect string ping
default-server check inter 50ms fall 1
timeout check 1s
server a <A>
server b <B>
""",
            _pool(
                'check = {every = "50ms", fall = 1, timeout = "1s", '
                "steps = [['', 'a'], ['ping\\n', 'ping']]}\nupstreams = [\"<A>\", \"<B>\"]"
            ),
        )
    )
    eventually(lambda: it.gives_only("a"), "who does not answer has clients")


_MARKED = """\
server a <A> check port <HEALTH> inter 50ms fall 1 rise 1 on-marked-down shutdown-sessions \
on-marked-up shutdown-backup-sessions
server b <B> backup
"""
_CUT = """\
check = {every = "50ms", fall = 1, rise = 1, port = <HEALTH>}
cut_failing = true
cut_backups = true
upstreams = [{address = "<A>"}, {address = "<B>", backup = true}]
"""


def test_who_is_with_a_server_that_goes_down_is_cut(proxy: Callable[..., Proxy]) -> None:
    health = Health(is_good=True)
    it = proxy(Both(_MARKED, _pool(_CUT)), HEALTH=health.port)
    with it.client() as (client, name):
        assert name == "a"
        health.ends()
        client.read_end()


def test_who_is_with_a_backup_is_cut_once_another_is_back(proxy: Callable[..., Proxy]) -> None:
    first = Health(is_good=False)
    spare, other = Named("s", "127.0.0.2"), Health(True, "127.0.0.2", first.port)
    it = proxy(Both(_MARKED, _pool(_CUT)), HEALTH=first.port, B=spare.address)
    eventually(lambda: it.gives_only("s"), "the backup does not serve")
    with it.client() as (client, name):
        assert name == "s"
        first.begins()
        client.read_end()
    eventually(lambda: it.gives_only("a"), "it is not back")
    for each in (first, other):
        each.ends()
    spare.stop()


def test_who_steers_takes_a_server_out_and_ends_its_sessions(
    proxy: Callable[..., Proxy], servers: tuple[Named, ...]
) -> None:
    it = proxy(Both("server a <A>\nserver b <B>", _pool('upstreams = ["<A>", "<B>"]')))
    a = servers[0].address
    with it.client() as (client, name):
        assert name == "a"
        it.is_told("set server it/a state drain", f"drain {a}")
        assert it.gives_only("b")
        client.send(b"still here")
        assert client.read(10) == b"still here"
        it.is_told("shutdown sessions server it/a", f"kill --upstream {a}")
        client.read_end()
    it.is_told("set server it/a state ready", f"ready {a}")
    assert it.names(4) == {"a": 2, "b": 2}
    it.is_told("set server it/a weight 3", f"weight {a} 3")
    assert it.names(8) == {"a": 6, "b": 2}


def test_bytes_go_both_ways_to_the_end_of_each(proxy: Callable[..., Proxy]) -> None:
    it = proxy(Both("server a <A>", _pool('upstreams = "<A>"')))
    with it.client() as (client, _):
        client.send(b"last words")
        client.shutdown_write()
        assert client.read_all() == b"last words"


def test_who_moves_no_byte_is_cut(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            "timeout client 200ms\ntimeout server 200ms\nserver a <A>",
            f'{_pool("upstreams = ")}"<A>"\n[server.limits]\nidle_timeout = "200ms"',
        )
    )
    with it.client() as (client, _):
        client.read_end()


def test_an_address_has_so_many_connections_and_no_more(proxy: Callable[..., Proxy]) -> None:
    it = proxy(
        Both(
            """\
stick-table type ip size 1k store conn_cur
tcp-request connection track-sc0 src
tcp-request connection reject if { sc0_conn_cur gt 2 }
server a <A>
""",
            f'limits = "few"\n{_pool("upstreams = ")}"<A>"\n[limits.few]\nsource_connections = 2',
        )
    )
    with it.client(), it.client():
        assert it.is_refused()


def test_who_comes_from_a_network_that_is_denied_is_turned_away(
    proxy: Callable[..., Proxy],
) -> None:
    it = proxy(
        Both(
            "tcp-request connection reject if { src 127.0.0.0/8 }\nserver a <A>",
            f'limits = "no"\n{_pool("upstreams = ")}"<A>"\n[limits.no]\ndeny = "127.0.0.0/8"',
        )
    )
    assert it.is_refused()


@pytest.mark.parametrize(
    ("first", "name"),
    [(hellos.real("a.example"), "a"), (hellos.real("else.example"), "c"), (b"SSH-2.0-x\r\n", "b")],
    ids=["by name", "by default", "by bytes"],
)
def test_who_begins_so_goes_there(proxy: Callable[..., Proxy], first: bytes, name: str) -> None:
    it = proxy(
        Both(
            """\
tcp-request inspect-delay 60s
tcp-request content accept if { req.ssl_hello_type 1 }
tcp-request content accept if { req.payload(0,4) -m str SSH- }
use_backend named if { req.ssl_sni -i a.example }
use_backend shell if { req.payload(0,4) -m str SSH- }
default_backend other
backend named
    server a <A>
backend shell
    server b <B>
backend other
    server c <C>
""",
            """\
route = "r"
[routes.r]
first_bytes = "60s"
rules = [{tls_name = "a.example", pool = "a"}, {starts_with = "SSH-", pool = "b"}]
default = "c"
[pools.a]
upstreams = "<A>"
[pools.b]
upstreams = "<B>"
[pools.c]
upstreams = "<C>"
""",
        )
    )
    with Peer(it.address) as client:
        client.send(first)
        assert client.read(1 + len(first)) == name.encode() + first
