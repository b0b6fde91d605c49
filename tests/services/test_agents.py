"""Agents of upstreams, on every engine that can: what they say, and what it changes."""

from __future__ import annotations

import socket

import pytest

import muxcore
from muxcore.pool.checks import obey
from muxcore.pool.upstream import STEPS
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream, refusing
from tests.services.checked import ENGINES, Answers, becomes, checked, fast

pytestmark = pytest.mark.parametrize("engine", ENGINES)


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
