"""Limits: a value that cannot work is refused at once, with what would do."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Any

import pytest

from muxcore.limits import Limits, seconds

_FIELDS = [field.name for field in dataclasses.fields(Limits)]
_SECONDS = [f.name for f in dataclasses.fields(Limits) if "float" in str(f.type)]
_WHOLE = [n for n in _FIELDS if n not in _SECONDS]
_NONE = ["idle_timeout", "half_close_timeout", "close_timeout", "drain_timeout", "drain_idle"]
_ZERO = ["backlog", "write_high", "write_low", "linger_timeout", "stop_timeout"]
_ZERO += ["drain_timeout", "drain_delay", "drain_spread"]


def limits(values: dict[str, Any]) -> Limits:
    return Limits(**values)


@pytest.mark.parametrize("name", _FIELDS)
def test_each_limit_is_explained_where_it_stands(name: str) -> None:
    assert f"\n    {name}: " in (inspect.getdoc(Limits) or "")


@pytest.mark.parametrize("name", _FIELDS)
@pytest.mark.parametrize("value", [-1, "1", True, math.nan, math.inf], ids=repr)
def test_what_is_no_number_or_below_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Limits\.{name} must be .*, not {value!r}"):
        limits({name: value})


@pytest.mark.parametrize("name", [n for n in _FIELDS if n not in _ZERO])
def test_zero_is_refused_where_nothing_could_happen_with_it(name: str) -> None:
    with pytest.raises(ValueError, match="must be above 0, not 0"):
        limits({name: 0})


@pytest.mark.parametrize("name", [n for n in _FIELDS if n not in _NONE])
def test_none_is_refused_where_there_must_be_a_cap(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Limits\.{name} must be"):
        limits({name: None})


@pytest.mark.parametrize("name", _WHOLE)
def test_half_a_connection_or_byte_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be a whole number, not 1\.5"):
        limits({name: 1.5})


@pytest.mark.parametrize("name", _SECONDS)
def test_seconds_may_have_a_fraction(name: str) -> None:
    assert getattr(limits({name: 0.25}), name) == 0.25


@pytest.mark.parametrize("name", _SECONDS)
def test_a_time_is_a_microsecond_at_least_and_ten_years_at_most(name: str) -> None:
    for value in (1e-6, 1, 315_360_000):
        assert getattr(limits({name: value}), name) == value
    with pytest.raises(ValueError, match=rf"Limits\.{name} must be at least 1e-06, not 1e-09"):
        limits({name: 1e-9})
    for value in (315_360_001, 1e10, 1e300, 10**400):
        with pytest.raises(ValueError, match=rf"Limits\.{name} must be at most 315360000"):
            limits({name: value})


@pytest.mark.parametrize("name", _WHOLE)
def test_a_whole_number_is_what_a_system_call_takes(name: str) -> None:
    most = {"processes": 2**22, "read_chunk": 2**26}.get(name, 2**31 - 1)
    raised = {"write_high": most, "write_buffer": most} if name.startswith("write_") else {}
    assert getattr(limits(raised | {name: most}), name) == most
    for value in (most + 1, 2**63, 10**400):
        with pytest.raises(ValueError, match=rf"Limits\.{name} must be at most {most}"):
            limits(raised | {name: value})


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("3", TypeError, "a timeout needs a number of seconds, not '3'"),
        (None, TypeError, "a number of seconds"),
        (True, TypeError, "a number of seconds"),
        (-1, ValueError, "at least 0, not -1"),
        (-(10**400), ValueError, "at least 0"),
        (math.inf, ValueError, "finite seconds, not inf; a day is 86400"),
        (math.nan, ValueError, "finite seconds, not nan"),
    ],
    ids=repr,
)
def test_a_time_that_cannot_be_meant_is_refused(
    value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        seconds("a timeout", value)


def test_a_time_longer_than_ten_years_is_ten_years() -> None:
    assert [seconds("a timeout", value) for value in (0, 3, 1e30, 10**400)] == [
        0,
        3,
        315_360_000,
        315_360_000,
    ]


def test_zero_and_none_are_taken_where_they_have_a_meaning() -> None:
    for names, value in ((_ZERO, 0), (_NONE, None)):
        values = dict.fromkeys(names, value)
        taken = dataclasses.asdict(limits(values))
        assert {name: taken[name] for name in names} == values


def test_marks_that_contradict_each_other_are_refused_with_both_values() -> None:
    with pytest.raises(ValueError, match=r"write_low \(11\) is above write_high \(10\)"):
        Limits(write_low=11, write_high=10)
    with pytest.raises(ValueError, match=r"write_buffer \(9\) is below write_high \(10\)"):
        Limits(write_low=0, write_high=10, write_buffer=9)
    Limits(write_low=10, write_high=10, write_buffer=10)


def test_limits_cannot_change_under_a_running_server() -> None:
    frozen = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.connections = 1  # type: ignore[misc]
