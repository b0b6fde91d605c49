"""One port for SSH, TLS and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream, refusing

from .conftest import Running
from .tls import hello

EXAMPLE = "one_port"
REQUIRES = frozenset({"connect", "guest", "relay"})

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, Upstream]]:
    with ExitStack() as opened:
        yield {name: opened.enter_context(Upstream()) for name in ("ssh", "http")}


@pytest.fixture(scope="module")
def arguments(upstreams: dict[str, Upstream]) -> Iterator[tuple[str, ...]]:
    with refusing() as nobody:
        routes = [f"{name}={upstream.address}" for name, upstream in upstreams.items()]
        yield (*routes, f"tls={nobody}", "--silence", "999")  # however slow this machine is


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh"),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http"),
    ],
    ids=["ssh", "http", "http2"],
)
def test_what_a_client_speaks_chooses_whom_it_gets_and_every_byte_goes_there(
    said: bytes, name: str, example: Callable[[], Peer], upstreams: dict[str, Upstream]
) -> None:
    client = example()
    client.send(said)
    with upstreams[name].accept() as upstream:
        assert upstream.read(len(said)) == said
        upstream.send(b"an answer")
        assert client.read(9) == b"an answer"
        client.send(b"more")
        assert upstream.read(4) == b"more"


@pytest.mark.parametrize("said", [b"", b"SS"], ids=["nothing", "the half of a word"])
def test_who_waits_for_the_server_to_speak_first_gets_ssh(
    said: bytes,
    start_example: Callable[..., Running],
    arguments: tuple[str, ...],
    upstreams: dict[str, Upstream],
) -> None:
    program = start_example(EXAMPLE, *arguments, "--silence", "0.05")
    with Peer(program.address) as client:
        client.send(said)
        with upstreams["ssh"].accept() as upstream:
            upstream.send(b"SSH-2.0-server\r\n")
            assert client.read(16) == b"SSH-2.0-server\r\n"
            client.send(b"H-2.0-client\r\n")
            assert upstream.read(len(said) + 14) == said + b"H-2.0-client\r\n"


def test_how_each_ended_is_a_line(
    example: Callable[[], Peer], upstreams: dict[str, Upstream], program: Running
) -> None:
    client = example()
    client.send(b"GET / ")
    with upstreams["http"].accept() as upstream:
        assert upstream.read(6) == b"GET / "
        upstream.send(b"gone")
        upstream.shutdown_write()
        assert client.read_all() == b"gone"
        client.shutdown_write()
        upstream.read_eof()
    host, port = client.name
    line = program.line_with(f"{host}:{port} ")
    assert "http, 6 bytes up, 4 down" in line
    assert line.endswith(", closed\n")


@pytest.mark.parametrize(
    "said", [b"\x05\x01\x00", hello("a.example")], ids=["nobody speaks it", "refused"]
)
def test_who_cannot_be_served_is_closed_and_the_next_is_served(
    said: bytes, example: Callable[[], Peer], upstreams: dict[str, Upstream]
) -> None:
    stranger, client = example(), example()
    stranger.send(said)
    stranger.read_end()
    client.send(b"GET / ")
    with upstreams["http"].accept() as upstream:
        assert upstream.read(6) == b"GET / "


def test_a_client_that_ends_amid_its_first_word_is_closed(example: Callable[[], Peer]) -> None:
    client = example()
    client.send(b"SS")
    client.shutdown_write()
    client.read_eof()


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        (["smtp=127.0.0.1:25"], "write ssh=ADDRESS"),
        (["ssh=:22"], "does not say where"),
        (["ssh=127.0.0.1:22", "--silence", "0"], "above 0"),
        (["ssh=127.0.0.1:22", "--silence", "long"], "invalid"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_right_spelling(
    told: list[str], advice: str, run_example: Run
) -> None:
    status, complaint = run_example(EXAMPLE, "127.0.0.1:0", *told)
    assert status == 2
    assert advice in complaint
