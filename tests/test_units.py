"""Numbers are read as people write them, and what is none is told with the right spelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from muxcore import _units


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (_units.seconds, "30", 30.0),
        (_units.seconds, "30s", 30.0),
        (_units.seconds, "0.1", 0.1),
        (_units.seconds, "500ms", 0.5),
        (_units.seconds, "50us", 50e-6),
        (_units.seconds, "2m", 120.0),
        (_units.seconds, "1.5H", 5400.0),
        (_units.seconds, "1d", 86_400.0),
        (_units.seconds, "-1", -1.0),
        (_units.seconds, "1e300", 1e300),
        (_units.number, "20k", 20_000.0),
        (_units.number, ".5", 0.5),
        (_units.count, "500", 500),
        (_units.count, "20k", 20_000),
        (_units.count, "1.5k", 1500),
        (_units.count, "2M", 2_000_000),
        (_units.count, "1g", 10**9),
        (_units.size, "64", 64),
        (_units.size, "16k", 16_384),
        (_units.size, "1 m", 1_048_576),
        (_units.size, "1.5K", 1536),
        (_units.share, "50%", 0.5),
        (_units.share, "33.3 %", 0.333),
    ],
)
def test_a_number_has_the_unit_that_people_write(
    read: Callable[[str], float], text: str, value: float
) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (_units.seconds, "must be a time such as 30s, 500ms or 2m, not "),
        (_units.number, "must be a number such as 500 or 20k, not "),
        (_units.count, "must be a whole number such as 500 or 20k, not "),
        (_units.size, "must be a number of bytes such as 64, 16k or 1m, not "),
        (_units.share, "must be a share such as 50%, not "),
        (_units.idle, "must be wait, close, or a time such as 30s or 500ms, not "),
    ],
)
@pytest.mark.parametrize(
    "text", ["", "abc", "nan", "inf", "3x", "1k k", "0x10", "1e999999999", "1" * 50, "5 m s", "k"]
)
def test_what_is_no_number_is_refused_with_an_example(
    read: Callable[[str], float], words: str, text: str
) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        read(text)
    assert str(refused.value) == f"{words}{text!r}"


@pytest.mark.parametrize("read", [_units.count, _units.size])
@pytest.mark.parametrize("text", ["1.5", "1.0001k", "3e-1"])
def test_part_of_a_thing_is_refused(read: Callable[[str], int], text: str) -> None:
    with pytest.raises(ValueError, match="must be a"):
        read(text)


@pytest.mark.parametrize(
    ("show", "read", "value", "text"),
    [
        (_units.show_seconds, _units.seconds, 0.1, "100ms"),
        (_units.show_seconds, _units.seconds, 60.0, "60s"),
        (_units.show_seconds, _units.seconds, 0.0, "0s"),
        (_units.show_seconds, _units.seconds, 1_234_567.0, "1234567s"),
        (_units.show_seconds, _units.seconds, 0.57, "570ms"),
        (_units.show_count, _units.count, 100_000, "100k"),
        (_units.show_count, _units.count, 1_000_000, "1m"),
        (_units.show_count, _units.count, 0, "0"),
        (_units.show_count, _units.count, 1001, "1001"),
        (_units.show_size, _units.size, 65_536, "64k"),
        (_units.show_size, _units.size, 67_108_864, "64m"),
        (_units.show_size, _units.size, 1000, "1000"),
        (_units.show_share, _units.share, 0.125, "12.5%"),
    ],
)
def test_what_is_shown_can_be_read(
    show: Callable[..., str], read: Callable[[str], float], value: float, text: str
) -> None:
    assert show(value) == text
    assert read(text) == value
