"""``muxcore load``: what it prints, and what it returns to scripts."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from muxcore.cli import main
from muxcore.testing.upstream import refusing


def status_of(*arguments: str) -> int:
    """Return the exit status, however main() ends."""
    try:
        return main(arguments)
    except SystemExit as exc:
        return cast(int, exc.code)


def test_a_right_server_gives_zero_and_a_summary(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["echo"]()).address)
    assert main(["load", address, "--duration", "0.1", "--warmup", "0", "-c", "3"]) == 0
    out = capsys.readouterr().out
    assert "closed loop, 3 connections" in out
    assert "every byte compared" in out


def test_json_holds_rate_latency_and_the_configuration(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["echo"]()).address)
    options = ["--duration", "0.1", "--warmup", "0", "--rate", "300", "--poisson", "--json"]
    assert main(["load", address, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rate"] > 0
    assert set(found["latency_us"]) == {"p50", "p90", "p99", "p99.9", "p99.99", "max"}
    assert found["config"]["mode"] == "poisson"
    assert found["errors"]["corrupt"] == 0


def test_a_wrong_byte_gives_one(
    serve: Any, answers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(serve(answers["flip_at"](3)).address)
    assert main(["load", address, "--duration", "0.1", "--warmup", "0", "-c", "1"]) == 1
    assert "corrupt" in capsys.readouterr().out


def test_lost_replies_give_one(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = str(serve(lambda sock, data, number: None).address)
    options = ["--duration", "0.1", "--warmup", "0", "-c", "2", "--timeout", "0.1"]
    assert main(["load", address, *options]) == 1
    assert "2 LOST" in capsys.readouterr().out


def test_no_server_gives_one(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing() as address:
        assert main(["load", address, "--duration", "0.1", "--warmup", "0"]) == 1
    assert "Connection refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "abc"], "write bytes as in"),
        (["--depth", "0"], "depth must be"),
        (["--duration", "0"], "--duration must be above 0"),
        (["--warmup", "40y"], "--warmup must be a time such as"),
        (["--warmup", "1e9h"], "both at most 1e+09"),
        (["--timeout", "1e300"], "reply_timeout must be above 0 and at most 1e+09"),
        (["--poisson"], "need a rate"),
        (["--processes", "51"], "1 to 50 processes"),
    ],
)
def test_a_wrong_option_gives_two_and_the_reason(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("load", "9", *options) == 2
    assert message in capsys.readouterr().err


def test_an_address_that_is_none_gives_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "localhost"]) == 2
    assert "has no port" in capsys.readouterr().err
