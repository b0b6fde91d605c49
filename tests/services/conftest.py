"""Two upstreams that may be checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.checked import Answers


@pytest.fixture
def one() -> Iterator[Answers]:
    with Answers() as upstream:
        yield upstream


@pytest.fixture
def other() -> Iterator[Answers]:
    with Answers() as upstream:
        yield upstream
