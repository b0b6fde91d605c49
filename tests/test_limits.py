"""Limits: a value that cannot work is refused at once, with what would do."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import pytest

from muxcore.limits import Limits

_FIELDS = [field.name for field in dataclasses.fields(Limits)]
_SECONDS = [n for n in _FIELDS if n.endswith(("_timeout", "_pause"))]
_WHOLE = [n for n in _FIELDS if n not in _SECONDS]
_NONE = ["idle_timeout", "half_close_timeout", "close_timeout"]
_ZERO = ["backlog", "write_high", "write_low", "drain_timeout", "linger_timeout"]


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


def test_zero_and_none_are_taken_where_they_have_a_meaning() -> None:
    Limits(backlog=0, write_high=0, write_low=0, drain_timeout=0)
    Limits(idle_timeout=None, half_close_timeout=None)


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
