"""On which line each key stands."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from muxcore.config.lines import lines_of

_TEXT = '''\
# [no] table
[a] # comment
x = 1 # = 2
"q.r" = "st]r \\" # no comment"
y = [1, {b = 2,
  c = '}'}, # [ {
  """x
  = " "" ]""", 2020-01-01 10:00:00,
]
[b . "c d"]
d . e = {f = [], g.h = -3e5, i = true}
\'k\' = \'\'\'
[no]
\'\'\'
[[l.m]]
z = 1
[[l.m]]
z = 2
[l.m.n]
k = inf
'''


def test_every_key_has_the_line_that_it_stands_on() -> None:
    tomllib.loads(_TEXT.replace("{b = 2,\n", "{b = 2,"))  # it is right, but for a newline there
    lines = lines_of(_TEXT)
    assert lines == {
        ("a",): 2,
        ("a", "x"): 3,
        ("a", "q.r"): 4,
        ("a", "y"): 5,
        ("a", "y", 0): 5,
        ("a", "y", 1): 5,
        ("a", "y", 1, "b"): 5,
        ("a", "y", 1, "c"): 6,
        ("a", "y", 2): 7,
        ("a", "y", 3): 8,
        ("b",): 10,
        ("b", "c d"): 10,
        ("b", "c d", "d"): 11,
        ("b", "c d", "d", "e"): 11,
        ("b", "c d", "d", "e", "f"): 11,
        ("b", "c d", "d", "e", "g"): 11,
        ("b", "c d", "d", "e", "g", "h"): 11,
        ("b", "c d", "d", "e", "i"): 11,
        ("b", "c d", "k"): 12,
        ("l",): 15,
        ("l", "m"): 15,
        ("l", "m", 0): 15,
        ("l", "m", 0, "z"): 16,
        ("l", "m", 1): 17,
        ("l", "m", 1, "z"): 18,
        ("l", "m", 1, "n"): 19,
        ("l", "m", 1, "n", "k"): 20,
    }


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    pairs: Any = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    return {path}.union(*(_paths(its, (*path, key)) for key, its in pairs))


@pytest.mark.parametrize("text", [Path("pyproject.toml").read_text(), "a.b.c = 1\na.d = 2", ""])
def test_every_key_of_a_real_file_is_found(text: str) -> None:
    assert set(lines_of(text)) == _paths(tomllib.loads(text)) - {()}


_PIECES = [*"\"'[]{}=.,#\\ \n\ta1-", '"""', "'''", "[[", "true", "\r\n"]


def _mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.sample(range(len(text) + 1), 2))
        if chance.random() < 0.5:
            text = text[:at] + chance.choice(_PIECES) + text[at:]
        else:
            text = text[:at] + text[min(end, at + 5) :]
    return text


@pytest.mark.parametrize("tries", [500, pytest.param(20_000, marks=pytest.mark.deep)])
def test_whatever_is_toml_is_understood(tries: int) -> None:
    chance = random.Random(tries)
    for _ in range(tries):
        text = _mutated(_TEXT.replace("{b = 2,\n", "{b = 2,"), chance)
        try:
            meant = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        assert set(lines_of(text.replace("\r\n", "\n"))) == _paths(meant) - {()}, text
