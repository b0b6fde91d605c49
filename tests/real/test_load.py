"""``muxcore load`` drives servers of others: nginx, Redis and memcached, with both generators."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxcore.cli import main
from muxcore.load.generator import native_reason

pytestmark = pytest.mark.real

_PAGE = random.Random(4).randbytes(3_000)


@pytest.fixture
def load(capsys: pytest.CaptureFixture[str], generator: str) -> Callable[..., dict[str, Any]]:
    """Drive a server with these options, which must go well; return the JSON."""

    def load(address: str, *options: str) -> dict[str, Any]:
        status = main(["load", address, *options, "--generator", generator, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == 0, found["first_error"]
        return found

    return load


@pytest.fixture(params=["native", "pure"])
def generator(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and (reason := native_reason()):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def page(nginx: Callable[..., Any]) -> str:
    _, address, files = nginx()
    (files / "page").write_bytes(_PAGE)
    return str(address)


@pytest.fixture(scope="module")
def redis(redis_server: Callable[..., Any]) -> str:
    return str(redis_server()[1])


@pytest.fixture(scope="module")
def memcached(serve: Callable[..., Any]) -> str:
    options = ("-u", "root", "-l", "HOST", "-p", "PORT")
    return str(serve("memcached", *options)[1])


@pytest.mark.parametrize(
    "options",
    [(), ("--depth", "4"), ("-q", "2k", "--poisson"), ("--workload", "churn")],
    ids=" ".join,
)
def test_nginx_gives_every_page_also_over_connections_that_it_ends(
    load: Any, page: str, options: tuple[str, ...]
) -> None:
    """It ends each connection after a thousand requests: the default of keepalive_requests."""
    found = load(page, "--http", "/page", "-c", "3", "-n", "5k", *options)
    assert found["answered"] == 5000
    assert found["bytes_in"] > 5000 * len(_PAGE)
    assert found["opened"] > 3


def test_nginx_answers_a_head_and_an_old_request(load: Any, page: str, tmp_path: Path) -> None:
    head = tmp_path / "head"
    head.write_bytes(b"HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n")
    assert load(page, "--request", f"@{head}", "-n", "100")["answered"] == 100
    old = load(page, "--request", "GET /page HTTP/1.0\\r\\n\\r\\n", "-n", "100", "-c", "2")
    assert old["answered"] == 100
    assert old["opened"] >= 100


@pytest.mark.parametrize(
    "answer", [("--expect", "+PONG\\r\\n"), ("--until", "\\r\\n"), ()], ids=" ".join
)
@pytest.mark.parametrize("depth", ["1", "16"])
def test_redis_answers_every_ping(
    load: Any, redis: str, answer: tuple[str, ...], depth: str
) -> None:
    found = load(redis, "--request", "PING\\r\\n", "-n", "5k", "--depth", depth, *answer)
    assert found["answered"] == 5000
    assert found["bytes_in"] == 5000 * len("+PONG\r\n")


def test_memcached_has_nothing_each_time(load: Any, memcached: str) -> None:
    found = load(memcached, "--request", "get it\\r\\n", "--until", "END\\r\\n", "-n", "5k")
    assert found["answered"] == 5000


def test_a_server_of_another_kind_is_told_as_that(
    page: str, generator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--size", "4k", "--generator", generator)  # some line ends are among the bytes
    assert main(["load", page, *options]) == 1
    assert "does not echo: it sent b'HTTP/1.1 400 Bad Request" in capsys.readouterr().out
