"""Which engines a test of something else takes: what is the same on all of them is told once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

_FIRST = ("native-epoll", "pure-process")  # a loop, and a process for each client


def usual(engines: Sequence[str]) -> list[Any]:
    """Return engines as parameters: one of each kind, and the others for the deep tests."""
    first = [name for name in engines if name in _FIRST] or list(engines[:1])
    return [
        name if name in first else pytest.param(name, marks=pytest.mark.deep) for name in engines
    ]
