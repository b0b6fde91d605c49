"""Bad input to the load generator gets a clear error, at once."""

from __future__ import annotations

from typing import Any

import pytest

from muxcore.address import Address
from muxcore.load import LoadConfig, parse_sizes

HERE = Address("127.0.0.1", 9)


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("64", ((64, 1.0),)),
        ("16k", ((16_384, 1.0),)),
        ("1M", ((1_048_576, 1.0),)),
        ("64:90, 16k:9,1m:1", ((64, 90.0), (16_384, 9.0), (1_048_576, 1.0))),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, mix: object) -> None:
    assert parse_sizes(text) == mix


@pytest.mark.parametrize("text", ["", "abc", "64:x", "64,,64", "1.3k"])
def test_a_size_that_is_none_shows_the_right_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="write bytes as in 64, 16k or 1m"):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workload": "storm"}, "choose from echo, bulk, churn, hold"),
        ({"connections": 0}, "connections must be"),
        ({"connections": True}, "connections must be"),
        ({"depth": 0}, "depth must be"),
        ({"connections": 100_000, "depth": 10_000}, "depth must be"),
        ({"sizes": ()}, "1 to 16 sizes"),
        ({"sizes": ((0, 1.0),)}, "size must be"),
        ({"sizes": ((64, 0.0),)}, "weight must be above 0"),
        ({"rate": -1.0}, "rate must be at least 0"),
        ({"rate": float("nan")}, "rate must be"),
        ({"reply_timeout": 0.0}, "reply_timeout must be above 0"),
        ({"workload": "churn", "depth": 2}, "leave depth at 1"),
        ({"workload": "hold"}, "hold needs a rate"),
        ({"poisson": True}, "need a rate"),
        ({"request": b"x"}, "needs the reply"),
        ({"until": b"x"}, "each of them a request"),
        ({"request": b"x", "reply": b"y", "until": b"z"}, "one of them"),
        ({"request": b"x", "until": b"y" * 300}, "length of until"),
        ({"messages": -1}, "messages must be"),
        ({"request": b"x" * 70_000, "reply": b"y"}, "length of the request"),
    ],
)
def test_a_load_that_cannot_be_is_refused_with_the_reason(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoadConfig(address=HERE, **arguments)


def test_the_shares_of_a_mix_add_up_to_exactly_one() -> None:
    config = LoadConfig(address=HERE, sizes=((1, 0.1), (2, 0.2), (3, 0.7)))
    assert config.cumulative()[-1] == (3, 1.0)
