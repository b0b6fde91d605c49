"""The router by TLS server name, in front of real TLS and of upstreams that look at every byte."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE
from muxcore.testing.upstream import Upstream, refusing

from .tls import alert, hello

EXAMPLE = "tls_router"
REQUIRES = frozenset({"connect", "relay"})

NOISE = random.Random(5).randbytes(100_000)
BULK = 4_000_000  # bytes: hundreds of records, and far above what waits anywhere on the way

Run = Callable[..., tuple[int, str]]


class Upstreams(NamedTuple):
    """Whom the router knows, beside one that refuses."""

    a: Upstream
    b: Upstream  # on a unix socket
    secure: Upstream


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstreams]:
    with contextlib.ExitStack() as opened:
        path = tmp_path_factory.mktemp("b") / "b.sock"
        where = ("127.0.0.1:0", f"unix:{path}", "127.0.0.1:0")
        yield Upstreams(*(opened.enter_context(Upstream(where=each)) for each in where))


@pytest.fixture(scope="module")
def arguments(upstreams: Upstreams) -> Iterator[tuple[str, ...]]:
    with refusing() as nobody:
        yield (
            f"a.example={upstreams.a.address}",
            f"B.example={upstreams.b.address}",
            f"secure.example={upstreams.secure.address}",
            f"gone.example={nobody}",
        )


@pytest.fixture(scope="module")
def certificate(certificate_for: Callable[[str], tuple[Path, Path]]) -> tuple[Path, Path]:
    return certificate_for("secure.example")


def check_both_ways(client: Peer, upstream: Peer) -> None:
    """Let each send the other something, then its end."""
    for sender, receiver in ((client, upstream), (upstream, client)):
        sender.send(NOISE)
        assert receiver.read(len(NOISE)) == NOISE
    client.shutdown_write()
    upstream.read_eof()
    upstream.send(NOISE)  # the other direction is still open
    upstream.shutdown_write()
    assert client.read_all() == NOISE


@pytest.mark.parametrize("name", ["a.example", "b.example", "B.EXAMPLE"])
def test_each_name_has_its_upstream_which_gets_the_very_bytes(
    name: str, example: Callable[[], Peer], upstreams: Upstreams
) -> None:
    client, said = example(), hello(name)
    client.send(said)
    with (upstreams.a if name == "a.example" else upstreams.b).accept() as upstream:
        assert upstream.read(len(said)) == said
        check_both_ways(client, upstream)


def test_what_comes_right_after_the_hello_is_not_lost(
    example: Callable[[], Peer], upstreams: Upstreams
) -> None:
    client, said = example(), hello("a.example") + NOISE
    client.send(said)
    with upstreams.a.accept() as upstream:
        assert upstream.read(len(said)) == said
        check_both_ways(client, upstream)


def test_a_hello_may_come_byte_by_byte_while_others_are_served(
    example: Callable[[], Peer], upstreams: Upstreams
) -> None:
    slow, fast, said = example(), example(), hello("b.example")
    for byte in said[:-1]:
        slow.send(bytes([byte]))
    fast.send(hello("a.example"))
    with upstreams.a.accept() as upstream:
        upstream.read(len(hello("a.example")))
        check_both_ways(fast, upstream)
    slow.send(said[-1:])
    with upstreams.b.accept() as upstream:
        assert upstream.read(len(said)) == said
        check_both_ways(slow, upstream)


def test_real_tls_goes_through_with_the_upstreams_own_certificate(
    where: str, upstreams: Upstreams, certificate: tuple[Path, Path]
) -> None:
    up, down = random.Random(1).randbytes(BULK), random.Random(2).randbytes(BULK)

    def serve() -> bytes:
        """Receive the one, send the other; return what the first one's hash is here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with (
            upstreams.secure.accept() as peer,
            context.wrap_socket(peer.sock, server_side=True) as tls,
        ):
            digest = sha256_of(tls, BULK)
            tls.sendall(down)
            return digest

    context = ssl.create_default_context(cafile=certificate[0])
    host, _, port = where.rpartition(":")
    with ThreadPoolExecutor(1) as upstream:
        serving = upstream.submit(serve)
        with (
            socket.create_connection((host, int(port)), timeout=DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="secure.example") as tls,
        ):
            tls.sendall(up)
            assert serving.result(DEADLINE) == hashlib.sha256(up).digest()
            assert sha256_of(tls, BULK) == hashlib.sha256(down).digest()


def sha256_of(tls: ssl.SSLSocket, size: int) -> bytes:
    """Return the hash of the next so many bytes."""
    digest = hashlib.sha256()
    while size:
        piece = tls.recv(min(size, 65_536))
        assert piece, f"it ended {size} bytes too early"
        digest.update(piece)
        size -= len(piece)
    return digest.digest()


def test_a_client_that_asks_for_a_stranger_reads_why_in_its_own_words(where: str) -> None:
    context = ssl.create_default_context()
    host, _, port = where.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=DEADLINE) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized[ _]name"),
    ):
        context.wrap_socket(plain, server_hostname="stranger.example")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (hello("stranger.example"), alert(112)),
        (hello(None), alert(109)),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", alert(47)),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", alert(50)),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
    ],
    ids=["a stranger", "no name", "too long", "malformed", "not TLS"],
)
def test_who_cannot_be_served_is_answered_and_closed(
    said: bytes, answer: bytes, example: Callable[[], Peer]
) -> None:
    client = example()
    client.send(said)
    assert client.read_all() == answer


def test_a_client_that_ends_amid_its_hello_is_closed(example: Callable[[], Peer]) -> None:
    client = example()
    client.send(hello("a.example")[:50])
    client.shutdown_write()
    client.read_eof()


def test_a_client_whose_upstream_refuses_is_closed_and_the_next_is_served(
    example: Callable[[], Peer], upstreams: Upstreams
) -> None:
    refused, client, said = example(), example(), hello("a.example")
    refused.send(hello("gone.example"))
    refused.read_end()
    client.send(said)
    with upstreams.a.accept() as upstream:
        assert upstream.read(len(said)) == said
        check_both_ways(client, upstream)


@pytest.mark.parametrize(
    ("route", "advice"),
    [("a.example", "write NAME=ADDRESS"), ("a.example=:9001", "does not say where")],
)
def test_a_route_that_cannot_be_meant_is_refused_with_the_right_spelling(
    route: str, advice: str, run_example: Run
) -> None:
    status, complaint = run_example(EXAMPLE, "127.0.0.1:0", route)
    assert status == 2
    assert advice in complaint
