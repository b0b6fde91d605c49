"""On which engines workers are tested."""

from __future__ import annotations

from typing import Any

import pytest

import muxcore

_OF_EACH_KIND = ("native-epoll", "pure-process")  # an adapter is a loop as the first is


def each() -> list[Any]:
    """Return the engines as parameters: one of each kind, and the others for the deep tests.

    The parent is the same code for all of them, and each worker is a start of Python.
    """
    return [
        info.name if info.name in _OF_EACH_KIND else pytest.param(info.name, marks=pytest.mark.deep)
        for info in muxcore.engines()
        if info.available
    ]
