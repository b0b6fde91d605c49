"""The proxy that is a program of asyncio's streams until muxcore adopts its clients."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream, refusing

from .conftest import Running

EXAMPLE = "asyncio_adopt"
REQUIRES = frozenset({"adopt", "connect", "guest", "relay"})

# More than asyncio reads ahead (twice 16 KiB, and a receive): the rest stays in the kernel.
NOISE = random.Random(7).randbytes(600_000)
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as opened:
        yield opened


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    with refusing() as address:
        yield address


@pytest.fixture(scope="module")
def arguments(upstream: Upstream, nobody: str) -> tuple[str, ...]:
    return upstream.address, nobody


def request(where: str) -> bytes:
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()


def check_both_ways(client: Peer, server: Peer) -> None:
    for sender, receiver in ((client, server), (server, client)):
        sender.send(NOISE[:50_000])
        assert receiver.read(50_000) == NOISE[:50_000]
    client.shutdown_write()
    server.read_eof()
    server.send(b"the other direction is still open")
    server.shutdown_write()
    assert client.read_all() == b"the other direction is still open"


def test_a_tunnel_is_made_by_asyncio_and_its_bytes_are_moved_by_muxcore(
    example: Callable[[], Peer], upstream: Upstream, program: Running
) -> None:
    client = example()
    client.send(request(upstream.address))
    with upstream.accept() as server:
        assert client.read(len(ESTABLISHED)) == ESTABLISHED
        check_both_ways(client, server)
    host, port = client.name
    end = program.line_with(f"{host}:{port} ")
    assert end == f"{host}:{port} to {upstream.address}: 50000 up, 50033 down\n"


def test_what_asyncio_has_read_ahead_comes_first_and_what_it_has_not_follows(
    example: Callable[[], Peer], upstream: Upstream
) -> None:
    client = example()
    client.send(request(upstream.address) + NOISE[:60_000])  # it does not wait for an answer
    with upstream.accept() as server:
        client.send(NOISE[60_000:])
        assert server.read(len(NOISE)) == NOISE
        assert client.read(len(ESTABLISHED)) == ESTABLISHED
        check_both_ways(client, server)


def test_a_client_may_have_ended_before_it_changes_hands(
    example: Callable[[], Peer], upstream: Upstream
) -> None:
    client = example()
    client.send(request(upstream.address) + b"a question")
    client.shutdown_write()
    with upstream.accept() as server:
        assert server.read(10) == b"a question"
        server.read_eof()
        server.send(b"an answer")
        server.shutdown_write()
        assert client.read_all() == ESTABLISHED + b"an answer"


def test_a_request_may_come_byte_by_byte_while_a_tunnel_is_open(
    example: Callable[[], Peer], upstream: Upstream
) -> None:
    slow, fast = example(), example()
    for byte in request(upstream.address)[:-1]:
        slow.send(bytes([byte]))
    fast.send(request(upstream.address))
    with upstream.accept() as server:
        assert fast.read(len(ESTABLISHED)) == ESTABLISHED
        check_both_ways(fast, server)
    slow.send(b"\n")
    with upstream.accept() as server:
        assert slow.read(len(ESTABLISHED)) == ESTABLISHED
        check_both_ways(slow, server)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (request("stranger.example:443"), b"403 Forbidden"),
        (b"GET http://a.example/ HTTP/1.1\r\n\r\n", b"501 Not Implemented"),
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"\xff\xfe \0 \r\n\r\n", b"501 Not Implemented"),
        (b"x" * 16_388, b"431 Request Header Fields Too Large"),
    ],
    ids=["stranger", "no tunnel", "no request", "noise", "too long"],
)
def test_who_is_refused_is_told_why(
    said: bytes, status: bytes, example: Callable[[], Peer]
) -> None:
    client = example()
    client.send(said)
    answer = client.read_all()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_a_destination_that_refuses_is_a_bad_gateway_not_a_broken_connection(
    example: Callable[[], Peer], nobody: str
) -> None:
    client = example()
    client.send(request(nobody))
    assert client.read_all().startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


@pytest.mark.parametrize("leave", [Peer.shutdown_write, Peer.reset], ids=["end", "reset"])
def test_a_client_that_leaves_amid_its_request_is_missed_by_nobody(
    leave: Callable[[Peer], None], example: Callable[[], Peer], upstream: Upstream
) -> None:
    gone, client = example(), example()
    gone.send(request(upstream.address)[:-1])
    leave(gone)
    client.send(request(upstream.address))
    with upstream.accept() as server:
        assert client.read(len(ESTABLISHED)) == ESTABLISHED
        check_both_ways(client, server)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (["a.example:443", "--engine", "pure-select"], "cannot be a guest"),
        (["a.example"], "has no port"),
    ],
    ids=["no guest", "no address"],
)
def test_what_cannot_be_is_refused_before_it_listens(
    told: list[str], complaint: str, run_example: Run
) -> None:
    status, said = run_example(EXAMPLE, "127.0.0.1:0", *told)
    assert status == 1
    assert complaint in said
    assert "Traceback" not in said
