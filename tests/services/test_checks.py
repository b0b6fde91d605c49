"""Checks of upstreams, on every engine that can: who fails is found without a client's help."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import muxcore
from muxcore.parts import checking
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Silent, refusing
from tests.services.checked import ENGINES, Answers, Speaks, becomes, checked, fast

pytestmark = pytest.mark.parametrize("engine", ENGINES)


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


_SMTP = [(b"", b"220 "), (b"", b"ESMTP"), (b"EHLO probe\r\n", b"250 "), (b"QUIT\r\n", b"")]


def test_a_check_says_one_thing_after_another(engine: str) -> None:
    lines = [(b"", b"220 mail ESMTP\r\n"), (b"EHLO probe\r\n", b"421 busy\r\n".ljust(20_000))]
    with Speaks(*lines) as upstream:
        pool = muxcore.Pool(upstream.address, check=fast(steps=_SMTP))
        name = upstream.address
        with checked(engine, pool):
            eventually(lambda: upstream.heard == {b"EHLO probe\r\n"}, "it is not greeted")
            upstream.lines = (
                lines[0],
                (b"EHLO probe\r\n", b"250-mail\r\n250 DSN\r\n"),
                (b"QUIT\r\n", b"221 bye\r\n"),
            )
            eventually(lambda: b"QUIT\r\n" in upstream.heard, "it is not taken leave of")
            becomes(pool, name, "up")
            upstream.lines = lines[0], (b"EHLO probe\r\n", b"221 no, go away\r\n".ljust(20_000))
            becomes(pool, name, "failing")
            assert pool.stats()[name].why.endswith("at step 3")


def test_another_port_than_the_clients_is_checked_and_gets_no_header(
    engine: str, one: Answers, other: Answers
) -> None:
    request = b"OPTIONS /primary HTTP/1.0\r\n\r\n"
    with Speaks((request, b"HTTP/1.0 503 Service Unavailable\r\n\r\n".ljust(20_000))) as patroni:
        check = fast(port=int(patroni.address.rpartition(":")[2]), send=request, expect=b" 200 ")
        pool = muxcore.Pool(one.address, send_proxy="v1", check=check)
        with checked(engine, pool):
            becomes(pool, one.address, "failing")
            assert patroni.heard == {request}
            patroni.lines = ((request, b"HTTP/1.0 200 OK\r\n\r\n"),)
            becomes(pool, one.address, "up")
        assert one.asked == 0


def test_how_soon_the_next_check_is(engine: str) -> None:
    check = fast(every=2, every_unsure=0.5, every_failing=10, fall=3, rise=2)
    pool = muxcore.Pool("a:1", check=check)
    judge = checking._Verdict(pool, pool.upstreams[0], check)
    seen = []
    for good in (True, False, False, True, False, False, False, False, True, False, True, True):
        judge.succeeded(b"") if good else judge.failed("late")
        seen.append(judge.every)
    assert seen == [2, 0.5, 0.5, 2, 0.5, 0.5, 10, 10, 0.5, 10, 0.5, 2]
    same = checking._Verdict(pool, pool.upstreams[0], fast(every=2))
    same.failed("late")
    assert same.every == 2


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
        ({"agent_send": b"db1"}, ValueError, "needs agent"),
        ({"port": 65_536}, ValueError, "from 1 to 65,535"),
        ({"every_unsure": 0}, ValueError, "above 0"),
        ({"every_failing": -1}, ValueError, "at least 0"),
        ({"steps": [(b"", b"220"), (b"", b"")]}, ValueError, "step 2 neither sends nor expects"),
        ({"steps": [(b"", "220")]}, TypeError, "pairs of bytes"),
        ({"steps": [b"220"]}, TypeError, "pairs of bytes"),
        ({"steps": 5}, TypeError, "pairs of bytes"),
        ({"steps": [(b"a", b"b")] * 101}, ValueError, "at most 100"),
        ({"steps": [(b"", bytes(20_000))]}, ValueError, "at most 16,384"),
        ({"steps": [(b"", b"220")], "expect": b"220"}, ValueError, "beside"),
    ],
)
def test_a_check_that_cannot_work_is_refused(
    engine: str, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        muxcore.Check(**options)
