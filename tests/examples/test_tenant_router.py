"""The router of PostgreSQL's tenants; tests/real has it in front of a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream, refusing

from .conftest import Running
from .postgres import CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, startup

EXAMPLE = "tenant_router"
REQUIRES = frozenset({"connect", "guest", "relay"})

NOISE = random.Random(9).randbytes(100_000)

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as opened:
        yield opened


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("tenants") / "tenants.toml"
    with refusing() as nobody:
        file.write_text(
            f'acme = ["{nobody}", "{upstream.address}"]\n'
            f'down = ["{nobody}"]\n'
            'odd = "127.0.0.1:5432"\n'
            'wrong = ["127.0.0.1"]\n'
        )
        yield file


@pytest.fixture(scope="module")
def arguments(tenants: Path) -> tuple[str, ...]:
    return (str(tenants),)


def error_of(answer: bytes) -> dict[bytes, bytes]:
    """Return the fields of an ErrorResponse, which is all that came."""
    assert answer[:1] == b"E"
    assert int.from_bytes(answer[1:5]) == len(answer) - 1
    assert answer.endswith(b"\0\0")
    return {field[:1]: field[1:] for field in answer[5:-2].split(b"\0")}


def test_a_tenants_session_goes_to_the_server_that_answers_from_its_first_byte_on(
    example: Callable[[], Peer], upstream: Upstream, program: Running
) -> None:
    client, said = example(), startup("acme")
    client.send(said + NOISE)
    with upstream.accept() as server:
        assert server.read(len(said) + len(NOISE)) == said + NOISE
        server.send(NOISE)
        assert client.read(len(NOISE)) == NOISE
        client.shutdown_write()
        server.read_eof()
        server.shutdown_write()
        client.read_eof()
    host, port = client.name
    line = program.line_with(f"{host}:{port} ")
    assert f" to {upstream.address}: 'ann' on 'acme', " in line
    assert f"{len(said) + len(NOISE)} bytes up, {len(NOISE)} down" in line
    assert line.endswith(", closed\n")


def test_a_client_that_asks_for_encryption_is_told_no_and_goes_on_in_the_clear(
    example: Callable[[], Peer], upstream: Upstream
) -> None:
    client, said = example(), startup("acme")
    for request in (GSS_REQUEST, SSL_REQUEST):
        client.send(request)
        assert client.read(1) == b"N"
    client.send(said)
    with upstream.accept() as server:
        assert server.read(len(said)) == said


def test_a_startup_may_come_byte_by_byte_while_others_are_served(
    example: Callable[[], Peer], upstream: Upstream
) -> None:
    slow, fast, said = example(), example(), startup("acme")
    for byte in said[:-1]:
        slow.send(bytes([byte]))
    fast.send(said)
    with upstream.accept() as server:
        assert server.read(len(said)) == said
    slow.send(said[-1:])
    with upstream.accept() as server:
        assert server.read(len(said)) == said


@pytest.mark.parametrize(
    ("database", "sqlstate", "why"),
    [
        ("nobody's", b"3D000", b'database "nobody\'s" does not exist'),
        ("down", b"57P03", b"the database cannot be reached now"),
        ("odd", b"57P03", b"the database cannot be reached now"),
        ("wrong", b"57P03", b"the database cannot be reached now"),
    ],
)
def test_who_cannot_be_served_reads_why_in_postgresqls_words(
    database: str, sqlstate: bytes, why: bytes, example: Callable[[], Peer]
) -> None:
    client = example()
    client.send(startup(database))
    error = error_of(client.read_all())
    assert (error[b"S"], error[b"C"], error[b"M"]) == (b"FATAL", sqlstate, why)


def test_what_is_no_startup_is_answered_as_a_server_would(example: Callable[[], Peer]) -> None:
    old, other = example(), example()
    old.send(bytes.fromhex("00000008 00020000"))
    assert error_of(old.read_all())[b"C"] == b"0A000"
    other.send(b"GET / HTTP/1.1\r\n\r\n")
    assert other.read_all() == b""


@pytest.mark.parametrize("said", [b"", startup("acme")[:-1], CANCEL_REQUEST])
def test_who_asks_for_nothing_gets_nothing(said: bytes, example: Callable[[], Peer]) -> None:
    client = example()
    client.send(said)
    client.shutdown_write()
    client.read_eof()


def test_a_tenant_may_be_added_while_it_runs(
    example: Callable[[], Peer], upstream: Upstream, tenants: Path
) -> None:
    client, before = example(), tenants.read_text()
    said = startup("added")
    tenants.write_text(f'{before}added = ["{upstream.address}"]\n')
    try:
        client.send(said)
        with upstream.accept() as server:
            assert server.read(len(said)) == said
    finally:
        tenants.write_text(before)


@pytest.mark.parametrize("text", [None, "acme = "], ids=["no file", "no TOML"])
def test_a_file_that_cannot_be_read_is_told_before_anybody_comes(
    text: str | None, tmp_path: Path, run_example: Run
) -> None:
    file = tmp_path / "tenants.toml"
    if text is not None:
        file.write_text(text)
    status, complaint = run_example(EXAMPLE, "127.0.0.1:0", str(file))
    assert status == 1
    assert str(file) in complaint
    assert "Traceback" not in complaint
