"""Which engines a test of something else takes: what is the same on all of them is told once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest

_KINDS = ("native-epoll", "pure-process")  # a loop, and a process for each client


def usual(values: Sequence[Any], first: Collection[str] = _KINDS) -> list[Any]:
    """Return engines, or rows that begin with one, as parameters; the others are deep.

    Args:
        values: them.
        first: those that are not deep; where none of them is there, the first value is not.
    """
    rows = [each if isinstance(each, tuple) else (each,) for each in values]
    there = {row[0] for row in rows}.intersection(first) or {row[0] for row in rows[:1]}
    return [pytest.param(*row, marks=() if row[0] in there else pytest.mark.deep) for row in rows]
