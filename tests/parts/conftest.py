"""What tests of several parts need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from muxcore.parts.waker import Waker


@pytest.fixture
def waker() -> Iterator[Waker]:
    with contextlib.closing(Waker()) as waker:
        yield waker
