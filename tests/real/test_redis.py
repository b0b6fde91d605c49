"""Redis through the relay: many small commands, pipelines of them, and large values."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

_COMMANDS = ("set", "get", "incr", "lpush", "mset")
_REQUESTS = 2_000  # of each command; a multiple of every pipeline below
_MEGABYTE = random.Random(5).randbytes(1_000_000)


@pytest.fixture(scope="module")
def redis(redis_server: Callable[..., tuple[Any, str]]) -> str:
    return redis_server()[1]


@pytest.fixture
def cli(run: Callable[..., str]) -> Callable[..., str]:
    """Run redis-cli against an address."""

    def cli(address: str, *arguments: str, **options: Any) -> str:
        host, port = address.split(":")
        return run("redis-cli", "-h", host, "-p", port, *arguments, **options)

    return cli


@pytest.mark.parametrize(
    "options",
    [("-P", "1"), ("-P", "16"), ("-P", "4", "-d", "10000"), ("-k", "0", "-n", "200")],
    ids=["one by one", "pipelined", "large values", "a connection each"],
)
def test_every_request_of_redis_benchmark_is_served_once(
    way: Any,
    redis: str,
    run: Callable[..., str],
    cli: Callable[..., str],
    options: tuple[str, ...],
) -> None:
    cli(redis, "FLUSHALL")
    cli(redis, "CONFIG", "RESETSTAT")
    host, port = way(redis).split(":")
    report = run(
        "redis-benchmark",
        *["-h", host, "-p", port, "-c", "20", "--csv", "-t", ",".join(_COMMANDS)],
        *["-n", str(_REQUESTS), *options],
    )
    wanted = int(options[-1]) if "-n" in options else _REQUESTS
    assert [row[0].split()[0].lower() for row in csv.reader(report.splitlines())][1:] == [
        *_COMMANDS
    ]
    assert _calls(cli(redis, "INFO", "commandstats")) == dict.fromkeys(_COMMANDS, (wanted, 0, 0))
    assert cli(redis, "LLEN", "mylist") == f"{wanted}\n"
    assert cli(redis, "GET", "counter:__rand_int__") == f"{wanted}\n"
    assert cli(redis, "INFO", "errorstats").split() == ["#", "Errorstats"]


def test_a_value_of_a_megabyte_is_the_same_on_either_way(
    way: Any, redis: str, cli: Callable[..., str], tmp_path: Path
) -> None:
    address = way(redis)
    value = tmp_path / "value"
    value.write_bytes(_MEGABYTE)
    for writer, reader in [(address, address), (address, redis), (redis, address)]:
        cli(redis, "FLUSHALL")
        with value.open("rb") as file:
            assert cli(writer, "-x", "SET", "big", stdin=file) == "OK\n"
        copy = os.fsencode(cli(reader, "GET", "big"))
        assert copy == _MEGABYTE + b"\n", f"{len(copy)} bytes that differ"


def test_a_stream_of_commands_is_answered_to_the_last(
    way: Any, redis: str, cli: Callable[..., str], tmp_path: Path
) -> None:
    count = 50_000
    cli(redis, "FLUSHALL")
    commands = tmp_path / "commands"
    commands.write_text("".join(f"RPUSH all {i}\r\n" for i in range(count)))
    with commands.open("rb") as file:
        report = cli(way(redis), "--pipe", stdin=file)
    assert f"errors: 0, replies: {count}" in report
    assert cli(redis, "LRANGE", "all", "0", "-1").split() == [str(i) for i in range(count)]


def _calls(info: str) -> dict[str, tuple[int, int, int]]:
    """Return for each command how often it was called, was rejected, and failed."""
    calls = {}
    for line in info.split():
        name, _, figures = line.removeprefix("cmdstat_").partition(":")
        if name in _COMMANDS:
            found = dict(pair.split("=") for pair in figures.split(","))
            calls[name] = (
                int(found["calls"]),
                int(found["rejected_calls"]),
                int(found["failed_calls"]),
            )
    return calls
