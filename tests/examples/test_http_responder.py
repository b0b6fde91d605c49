"""The HTTP/1.1 responder, asked by hand: a client library would not send what is wrong."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import muxcore
from muxcore.testing import Peer, eventually

pytest.importorskip("h11", reason="the example needs h11: pip install h11")

EXAMPLE = "http_responder"
_ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def answer(peer: Peer, to_head: bool = False) -> tuple[int, dict[bytes, bytes], bytes]:
    """Read one answer: its status, its headers, its body."""
    version, status, _ = peer.read_line().split(b" ", 2)
    assert version == b"HTTP/1.1"
    headers = {}
    while (line := peer.read_line()) != b"\r\n":
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    size = 0 if to_head or int(status) < 200 else int(headers[b"content-length"])
    return int(status), headers, peer.read(size)


def test_a_connection_is_kept_and_its_requests_may_come_in_one_piece_or_in_many(
    example: Callable[[], Peer],
) -> None:
    peer = example()
    peer.send(GET)
    assert answer(peer)[0::2] == (200, b"hello\n")
    post = b"POST /upper HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nshout"
    peer.send(
        GET + post + b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert answer(peer)[0::2] == (200, b"hello\n")
    assert answer(peer)[0::2] == (200, b"SHOUT")
    status, headers, _ = answer(peer, to_head=True)
    assert (status, headers[b"content-length"]) == (200, b"6")
    assert answer(peer)[0] == 404
    for byte in post:
        peer.send(bytes([byte]))
    assert answer(peer)[0::2] == (200, b"SHOUT")


def test_chunks_and_expectations_are_understood(example: Callable[[], Peer]) -> None:
    peer = example()
    peer.send(
        b"POST /upper HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    assert answer(peer)[0] == 100
    peer.send(b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n")
    assert answer(peer)[0::2] == (200, b"ONE TWO")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
    ids=["Connection: close", "HTTP/1.0"],
)
def test_who_asks_for_the_end_gets_it_after_the_answer(
    example: Callable[[], Peer], request_: bytes
) -> None:
    peer = example()
    peer.send(request_ + GET)  # what follows the last request is not answered
    status, headers, body = answer(peer)
    assert (status, headers[b"connection"], body) == (200, b"close", b"hello\n")
    peer.read_eof()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 this is TLS, not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host: RFC 9112, 3.2
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000, 431),
        (
            b"POST /upper HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
            + bytes(3_000_000),
            413,
        ),
    ],
    ids=["no request", "no host", "no size", "a large head", "a large body"],
)
def test_a_refusal_arrives_even_while_the_client_goes_on_sending(
    example: Callable[[], Peer], sent: bytes, status: int
) -> None:
    peer = example()
    peer.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer(peer, to_head=True)[0] == 200
    peer.send(sent)
    found, headers, body = answer(peer)
    assert (found, headers[b"connection"]) == (status, b"close")
    assert body
    peer.send(b"and more")
    peer.read_eof()


def test_a_refused_client_that_never_stops_sending_is_cut_off(
    example: Callable[[], Peer],
) -> None:
    peer = example()
    peer.send(b"no request\r\n\r\n")
    assert answer(peer)[0] == 400
    with pytest.raises(ConnectionError):
        peer.send(bytes(32 * 1_048_576))


def test_a_drain_ends_what_is_kept_alive_and_lets_a_request_have_its_answer(engine: str) -> None:
    responder = runpy.run_path(str(_ROOT / "examples" / "http_responder.py"))["Responder"]
    limits = muxcore.Limits(drain_timeout=600)
    server = muxcore.Server(responder, 0, engine=engine, limits=limits, allow_threads=True)
    with server, Peer(server.addresses[0]) as idle, Peer(server.addresses[0]) as busy:
        for peer in (idle, busy):
            peer.send(GET)
            assert b"connection" not in answer(peer)[1]
        busy.send(b"POST /upper HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nsho")
        eventually(lambda: server.stats().bytes_in > 3 * len(GET), "it has come")
        server.request_drain()
        idle.read_eof()
        busy.send(b"ut")
        status, headers, body = answer(busy)
        assert (status, headers[b"connection"], body) == (200, b"close", b"SHOUT")
        busy.read_eof()
