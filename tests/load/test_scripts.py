"""Servers that do not echo are asked what they answer, and both generators judge them alike."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest

from muxcore.address import Address
from muxcore.load import LoadConfig, LoadResult, generator, sharding, window

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def drive(kind: str, address: Address, **load: Any) -> LoadResult:
    """Send a number of messages, however long that takes."""
    source = generator(LoadConfig(address=address, **{"messages": 60, **load}), kind)
    try:
        return window(source, 0.0, 3600.0)
    finally:
        source.close()


def numbered(sock: socket.socket, data: bytes, number: int) -> None:
    """Answer each line with one of another length, in two pieces."""
    for _ in range(data.count(b"\n")):
        sock.sendall(b"250 " + b"x" * (number % 50))
        sock.sendall(b" and so on\r\n")


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"depth": 4},
        {"rate": 500.0},
        {"rate": 500.0, "poisson": True, "depth": 3},
        {"workload": "churn"},
        {"idle": 5},
    ],
    ids=str,
)
def test_replies_that_differ_are_right_up_to_a_text(
    kind: str, load: dict[str, Any], serve: Any
) -> None:
    server = serve(numbered)
    load = {"request": b"NOOP\r\n", "until": b"\r\n", "connections": 4, **load}
    result = drive(kind, server.address, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.sent == result.answered == result.latency.total == 60


def test_a_reply_that_nobody_asked_for_is_found(kind: str, serve: Any) -> None:
    server = serve(lambda sock, data, number: sock.sendall(b"one\r\ntwo\r\n"))
    result = drive(kind, server.address, request=b"x\r\n", until=b"\r\n", connections=1)
    assert result.errors["corrupt"] == 1
    assert "offset 5: expected nothing, got byte 116 in b'two\\r\\n'" in result.first_error


@pytest.mark.parametrize("response", [OK, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize(
    "load", [{}, {"depth": 4}, {"rate": 400.0}, {"workload": "churn"}], ids=str
)
def test_http_is_driven_over_connections_that_stay_open(
    kind: str, load: dict[str, Any], response: bytes, serve: Any, answers: Any
) -> None:
    server = serve(answers["http"](response))
    result = drive(kind, server.address, request=GET, http=True, connections=5, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.sent == result.answered == 60
    if "workload" not in load:
        assert server.accepted == result.opened == 5


@pytest.mark.parametrize(
    ("response", "how"),
    [
        (OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), {"closes": True}),
        (OK.replace(b"/1.1", b"/1.0"), {"closes": True}),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", {"closes": True}),
        (OK, {"requests": 3}),
    ],
    ids=["told", "http 1.0", "body to the end", "without a word"],
)
@pytest.mark.parametrize("load", [{}, {"rate": 300.0}, {"workload": "churn"}], ids=str)
def test_a_connection_that_http_lets_the_server_end_is_opened_anew(
    kind: str, load: dict[str, Any], response: bytes, how: Any, serve: Any, answers: Any
) -> None:
    server = serve(answers["http"](response, **how))
    result = drive(kind, server.address, request=GET, http=True, connections=3, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.sent == result.answered == 60
    assert result.opened > 3


def test_what_a_server_that_ends_a_connection_leaves_unanswered_is_asked_again(
    kind: str, serve: Any
) -> None:
    """It answers two of four that are under way, says that it closes, and closes."""
    turn: dict[socket.socket, int] = {}
    last = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            turn[sock] = turn.get(sock, 0) + 1
            if turn[sock] < 3:
                sock.sendall(OK if turn[sock] == 1 else last)
            if turn[sock] == 4:  # it has read all: its close is no reset
                turn.pop(sock)
                sock.close()
                return

    load = {"request": GET, "http": True, "connections": 1, "depth": 4, "messages": 40}
    result = drive(kind, serve(answer).address, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.answered == 40


def test_half_a_reply_is_lost_and_the_next_connection_begins_a_new_one(
    kind: str, serve: Any
) -> None:
    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        sock.sendall(OK[:-3] if number == 5 else OK)
        if number == 5:
            sock.close()

    load = {"request": GET, "http": True, "workload": "churn", "connections": 1}
    result = drive(kind, serve(answer).address, **load)
    assert result.errors == {"closed": 1}
    assert (result.lost, result.answered) == (1, 59)


def test_an_http_error_is_counted_and_its_connection_goes_on(
    kind: str, serve: Any, answers: Any
) -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    server = serve(answers["http"](missing))
    result = drive(kind, server.address, request=GET, http=True, connections=3)
    assert result.errors == {"status": 60}
    assert result.lost == result.sent == 60
    assert result.received == result.latency.total == 0
    assert result.first_error == "the server answered HTTP/1.1 404 Not Found"
    assert server.accepted == result.open == 3
    assert not result.ok


def test_a_head_request_waits_for_no_body(kind: str, serve: Any, answers: Any) -> None:
    server = serve(answers["http"](OK.removesuffix(b"hello")))
    request = GET.replace(b"GET", b"HEAD")
    assert drive(kind, server.address, request=request, http=True, connections=2).ok


def test_a_server_that_does_not_speak_http_is_told_with_its_words(kind: str, serve: Any) -> None:
    server = serve(lambda sock, data, number: sock.sendall(b"-ERR unknown command\r\n"))
    result = drive(kind, server.address, request=GET, http=True, connections=2)
    assert set(result.errors) == {"corrupt"}  # of one or both: the first says enough
    assert "expected an HTTP reply, got b'-ERR unknown command\\r\\n'" in result.first_error


def test_a_server_that_closes_instead_of_answering_is_no_endless_loop(
    kind: str, serve: Any
) -> None:
    server = serve(lambda sock, data, number: sock.close())
    result = drive(kind, server.address, request=GET, http=True, connections=2)
    assert result.errors["closed"] + result.errors["reset"] == 2
    assert server.accepted == 2


# -- what the server says first


@pytest.mark.parametrize("load", [{}, {"workload": "churn"}, {"rate": 300.0}], ids=str)
def test_a_server_that_speaks_first_is_heard_out(
    kind: str, load: dict[str, Any], serve: Any
) -> None:
    server = serve(numbered, b"220 tiny.example ready\r\n")
    load = {"request": b"NOOP\r\n", "until": b"\r\n", "greeting": b"\r\n", **load}
    result = drive(kind, server.address, connections=3, **load)
    assert result.ok, (result.errors, result.first_error)
    assert result.answered == 60


def test_a_greeting_that_does_not_end_is_a_time_out(kind: str, serve: Any) -> None:
    server = serve(numbered, b"220 ")
    load = {"request": b"NOOP\r\n", "until": b"\r\n", "greeting": b"\r\n", "connections": 2}
    result = drive(kind, server.address, connect_timeout=0.1, **load)
    assert result.errors == {"timeout": 2}
    assert server.bytes == 0


def test_what_follows_a_greeting_is_found(kind: str, serve: Any) -> None:
    server = serve(numbered, b"220 ready\r\nand more")
    load = {"request": b"NOOP\r\n", "until": b"\r\n", "greeting": b"\r\n", "connections": 1}
    result = drive(kind, server.address, **load)
    assert result.errors == {"corrupt": 1}
    assert "offset 11: expected nothing, got byte 97 in b'and more'" in result.first_error


# -- a server that was taken for an echo


def test_a_server_that_does_not_echo_is_told_as_that_and_not_waited_for(
    kind: str, serve: Any
) -> None:
    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        if number == 3:  # to the others it has nothing to say
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    load = {"connections": 5, "reply_timeout": 3600.0}
    result = drive(kind, serve(answer).address, **load)
    assert result.errors == {"corrupt": 1}
    assert result.lost == 5
    assert result.first_error == (
        "this server does not echo: it sent b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n'; say what to "
        "send with --request"
    )


def test_a_wrong_byte_after_a_right_one_is_no_other_kind_of_server(
    kind: str, serve: Any, answers: Any
) -> None:
    result = drive(kind, serve(answers["flip_at"](9)).address, connections=1, sizes=((1, 1.0),))
    assert "connection 0, offset 8: expected byte" in result.first_error


# -- a number of messages


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"depth": 4},
        {"connections": 20},
        {"rate": 2000.0},
        {"rate": 2000.0, "poisson": True, "depth": 2},
        {"workload": "churn"},
        {"workload": "churn", "rate": 2000.0},
    ],
    ids=str,
)
def test_no_more_messages_are_sent_than_were_asked_for(
    kind: str, load: dict[str, Any], serve: Any, answers: Any
) -> None:
    server = serve(answers["echo"]())
    load = {"connections": 7, "messages": 101, "sizes": ((10, 1.0),), **load}
    source = generator(LoadConfig(address=server.address, **load), kind)
    for turn in itertools.count(1):
        result = window(source, 0.0, 60.0)
        assert result.ok, (result.errors, result.first_error)
        assert result.sent == result.received == result.answered == result.latency.total == 101
        assert result.bytes_in == result.bytes_out == 1010
        assert server.bytes == 1010 * turn
        assert result.seconds < 60
        if turn == 2:
            break
    source.close()


def test_messages_that_are_never_answered_end_the_window(kind: str, serve: Any) -> None:
    server = serve(lambda sock, data, number: None)
    load = {"connections": 3, "messages": 3, "reply_timeout": 0.1}
    result = drive(kind, server.address, **load)
    assert result.lost == result.errors["timeout"] == 3
    assert 0.1 <= result.seconds < 3600


def test_processes_share_the_messages(serve: Any, answers: Any) -> None:
    server = serve(answers["echo"]())
    config = LoadConfig(address=server.address, connections=5, messages=101)
    result = sharding.run(config, 2, warmup=0.0, seconds=60.0)
    assert result.ok, result.first_error
    assert result.answered == 101
    assert server.bytes == 101 * 64
