"""Checks of upstreams, on every engine that can: who fails is found without a client's help."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

import muxcore
from muxcore.pool.checks import obey
from muxcore.pool.upstream import STEPS
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Silent, Upstream, refusing

_ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and {"timers", "shared_state", "connect"} <= info.capabilities
]
pytestmark = pytest.mark.parametrize("engine", _ENGINES)


class Answers:
    """An upstream that greets everybody, and answers a request, as it is told at the time."""

    def __init__(self) -> None:
        self.greeting, self.answer = b"", b""
        self.asked = 0
        self._server = muxcore.Server(self._protocol, "127.0.0.1:0", engine="pure-select")

    def _protocol(self) -> Any:
        answers = self

        class Greeting:
            def connection_made(self, transport: Any) -> None:
                self._transport = transport
                answers.asked += 1
                transport.write(answers.greeting)

            def data_received(self, data: bytes) -> None:
                self._transport.write(answers.answer)

        return Greeting()

    @property
    def address(self) -> str:
        return self._server.addresses[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop()


@pytest.fixture
def one() -> Iterator[Answers]:
    with Answers() as upstream:
        yield upstream


@pytest.fixture
def other() -> Iterator[Answers]:
    with Answers() as upstream:
        yield upstream


def fast(**options: Any) -> muxcore.Check:
    return muxcore.Check(**{"every": 0.02, "timeout": 60.0, "fall": 2, "rise": 2} | options)


@contextlib.contextmanager
def checked(engine: str, pool: muxcore.Pool) -> Iterator[str]:
    """Serve a relay to the pool; yield its address."""
    with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine) as server:
        yield server.addresses[0]


def becomes(pool: muxcore.Pool, name: str, state: str) -> None:
    eventually(
        lambda: pool.stats()[name].state == state,
        lambda: f"{name} is {pool.stats()[name]}, not {state}",
    )


def test_one_that_refuses_is_found_before_any_client_comes(engine: str, one: Answers) -> None:
    with refusing() as dead:
        pool = muxcore.Pool(dead, one.address, check=fast())
        with checked(engine, pool) as where:
            becomes(pool, dead, "failing")
            assert "refused" in pool.stats()[dead].why
            for _ in range(4):
                with Peer(where) as client:
                    client.shutdown_write()
                    client.read_eof()
            assert pool.stats()[one.address].total == 4
            assert pool.stats()[dead].failed == 0


def test_one_that_takes_connections_and_does_not_answer_is_found(
    engine: str, one: Answers, other: Answers
) -> None:
    busy = b"HTTP/1.0 503 Busy\r\n".ljust(20_000)  # more than is looked at
    one.answer, other.answer = b"HTTP/1.0 200 OK\r\n", busy
    check = fast(send=b"GET /ready HTTP/1.0\r\n\r\n", expect=b" 200 ")
    pool = muxcore.Pool(one.address, other.address, check=check)
    with checked(engine, pool):
        becomes(pool, other.address, "failing")
        assert "expected another answer" in pool.stats()[other.address].why
        assert pool.stats()[one.address].state == "up"
        other.answer = b"HTTP/1.0 200 OK\r\n"
        becomes(pool, other.address, "up")


def test_one_that_is_silent_is_found(engine: str, one: Answers) -> None:
    with Silent() as silent:
        check = fast(timeout=0.05)
        pool = muxcore.Pool(silent.address, one.address, check=check)
        with checked(engine, pool):
            becomes(pool, silent.address, "failing")
    one.greeting = b""
    pool = muxcore.Pool(one.address, check=fast(timeout=0.05, expect=b"220"))
    with checked(engine, pool):
        becomes(pool, one.address, "failing")
        assert "more than 0.05 s" in pool.stats()[one.address].why
        one.greeting = b"220 ready\r\n"
        becomes(pool, one.address, "up")


def test_where_all_are_failing_a_client_is_refused_at_once(engine: str) -> None:
    with refusing() as dead:
        pool = muxcore.Pool(dead, check=fast())
        with checked(engine, pool) as where:
            becomes(pool, dead, "failing")
            with Peer(where) as client:
                client.read_end()
            assert pool.stats()[dead].failed == 0


def test_a_check_that_succeeds_ends_a_pause(engine: str, one: Answers) -> None:
    pool = muxcore.Pool(one.address, check=fast())
    pool.upstreams[0].rests_until = pool.clock() + 3600
    pool.changed()
    with checked(engine, pool):
        becomes(pool, one.address, "up")


def test_an_agent_tells_of_its_upstream(engine: str, one: Answers, other: Answers) -> None:
    other.greeting = b"50% maxconn:7\n"
    pool = muxcore.Pool(one.address, check=fast(agent=other.port))
    upstream = pool.upstreams[0]
    with checked(engine, pool):
        eventually(lambda: upstream.percent == 50, "its weight is not heard")
        assert upstream.max_active == 7
        other.greeting = b"drain\r"
        becomes(pool, one.address, "out")
        assert pool.stats()[one.address].why == "its agent says drain"
        other.greeting = b"ready down # it is deployed\n"
        becomes(pool, one.address, "failing")
        assert pool.stats()[one.address].why == "its agent says down: it is deployed"
        other.greeting = b"up 100%\n"
        becomes(pool, one.address, "up")


def test_an_agent_that_is_not_there_changes_nothing(engine: str, one: Answers) -> None:
    with refusing() as dead:
        agent = int(dead.rpartition(":")[2])
        pool = muxcore.Pool(one.address, check=fast(agent=agent, fall=1))
        with checked(engine, pool):
            eventually(lambda: one.asked > 5, "it is not checked")
            assert pool.stats()[one.address].state == "up"


def test_one_that_is_added_is_checked_and_one_that_is_removed_no_more(
    engine: str, one: Answers, other: Answers
) -> None:
    pool = muxcore.Pool(one.address, check=fast())
    with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine) as server:
        eventually(lambda: one.asked > 0, "it is not checked")
        server.call_soon_threadsafe(pool.add, other.address)
        eventually(lambda: other.asked > 2, "it is not checked")
        server.call_soon_threadsafe(pool.remove, one.address)
        eventually(lambda: len(pool.upstreams) == 1, "it is not removed")
        before, asked = one.asked, other.asked
        eventually(lambda: other.asked > asked + 20, "it is checked no more")
        assert one.asked <= before + 1  # one may have been on its way


def test_a_pool_of_a_protocol_is_checked_from_its_first_client_on(
    engine: str, one: Answers
) -> None:
    pool = muxcore.Pool(one.address, check=fast())

    class Routes:
        def connection_made(self, transport: Any) -> None:
            transport.relay(pool)

    with muxcore.Server(Routes, "127.0.0.1:0", engine=engine) as server:
        assert one.asked == 0
        with Peer(server.addresses[0]):
            eventually(lambda: one.asked > 3, "it is not checked")


def test_a_check_that_waits_does_not_hold_up_the_end(engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        pool = muxcore.Pool(where, check=fast(expect=b"220"))
        with checked(engine, pool):
            listener.accept()[0].close()
            waits, _ = listener.accept()
        ended = threading.Event()  # the `with` above has returned: the server has ended
        ended.set()
        waits.close()
    assert ended.is_set()
    assert pool.upstreams[0].active == 0


def test_a_line_that_its_agent_has_not_ended_changes_nothing(engine: str, one: Answers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as agent:
        pool = muxcore.Pool(one.address, check=fast(agent=agent.getsockname()[1]))
        with checked(engine, pool):
            for _ in range(2):
                talks, _ = agent.accept()
                talks.sendall(b"maxconn:3")  # of 30
                talks.close()
        assert pool.upstreams[0].max_active is None


def test_an_agent_is_sent_what_it_is_to_hear(engine: str, one: Answers) -> None:
    with Upstream() as agent:
        check = fast(agent=int(agent.address.rpartition(":")[2]), agent_send=b"db1\n")
        pool = muxcore.Pool(one.address, check=check)
        with checked(engine, pool), agent.accept() as asks:
            assert asks.read(4) == b"db1\n"
            asks.send(b"down\n")
            becomes(pool, one.address, "failing")


def test_whom_an_agent_gives_places_gets_those_who_wait(
    engine: str, one: Answers, other: Answers
) -> None:
    other.greeting = b"maxconn:1\n"
    check = fast(agent=other.port)
    pool = muxcore.Pool(one.address, queue=9, queue_timeout=60.0, check=check)
    with checked(engine, pool) as where:
        eventually(lambda: pool.upstreams[0].max_active == 1, "its cap is not heard")
        clients = [Peer(where) for _ in range(3)]
        eventually(lambda: pool.waiting == 2, lambda: f"{pool.waiting} wait, not 2")
        other.greeting = b"maxconn:3\n"
        eventually(lambda: pool.waiting == 0, lambda: f"{pool.waiting} still wait")
        assert pool.upstreams[0].active == 3
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("line", "percent", "said", "withdrawn"),
    [
        ("75%", 75, "", ""),
        ("up 30%", 30, "", ""),
        ("drain", 100, "", "drain"),
        ("drain 75%", 75, "", "drain"),
        ("75% drain ready", 75, "", ""),
        ("stopped#bye", 100, "its agent says stopped: bye", ""),
        ("fail", 100, "its agent says fail", ""),
        ("failed", 100, "its agent says failed", ""),
        ("down up", 100, "", ""),
        ("up\tdown", 100, "its agent says down", ""),
        ("MAINT", 100, "", "maint"),
        ("75%,maxconn:30,maint,down", 75, "its agent says down", "maint"),
        ("down ready", 100, "its agent says down", ""),
        ("drain up", 100, "", "drain"),
        ("weight:50%", 50, "", ""),
        ("weight:128", 6_400, "", ""),
        ("weight:0", 0, "", ""),
        ("weight:257", 100, "", ""),
        ("what is this, 10%", 10, "", ""),
        ("", 100, "", ""),
        ("900%", 900, "", ""),
        ("0%", 0, "", ""),
    ],
)
def test_what_an_agent_may_say(
    engine: str, line: str, percent: int, said: str, withdrawn: str
) -> None:
    upstream = muxcore.Upstream("a:1", weight=2)
    obey(upstream, line)
    assert (upstream.percent, upstream.said) == (percent, said)
    assert upstream.withdrawn == (withdrawn and f"its agent says {withdrawn}")
    assert upstream._share(0.0, 0.0) == max(1, 2 * STEPS * percent // 100)
    assert upstream.is_up == (not (said or withdrawn) and percent > 0)


def test_what_an_agent_does_not_speak_of_stays(engine: str) -> None:
    upstream = muxcore.Upstream("a:1", weight=3, max_active=9)
    lines = {
        "drain": "out",
        "up 50%": "out",
        "down": "out",
        "ready": "failing",
        "100%": "failing",
        "up": "up",
        "0%": "out",
        "up ready": "out",
        "weight:2": "up",
    }
    for line, state in lines.items():
        obey(upstream, line)
        assert upstream.stats(0.0).state == state, line
    assert upstream._share(0.0, 0.0) == 2 * STEPS
    assert upstream.max_active == 9
    obey(upstream, "30000%")
    assert upstream._share(0.0, 0.0) == 256 * STEPS


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"every": 0}, ValueError, "above 0"),
        ({"timeout": -1}, ValueError, "at least 0"),
        ({"fall": 0}, ValueError, "from 1 to 1,000"),
        ({"rise": 1.5}, ValueError, "from 1 to 1,000"),
        ({"send": "GET"}, TypeError, "bytes, not str"),
        ({"expect": bytes(20_000)}, ValueError, "at most 16,384"),
        ({"agent": 0}, ValueError, "from 1 to 65,535"),
        ({"agent_send": b"db1"}, ValueError, "without agent"),
    ],
)
def test_a_check_that_cannot_work_is_refused(
    engine: str, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        muxcore.Check(**options)
