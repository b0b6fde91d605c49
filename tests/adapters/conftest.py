"""The adapters that are here, each as a suite without scenarios: for its ``serving``."""

from __future__ import annotations

import pytest

import muxcore
from muxcore.testing.program import ProgramSuite

_ADAPTERS = [
    info.name for info in muxcore.engines() if info.name in ("asyncio", "uvloop") and info.available
]


@pytest.fixture(params=_ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> ProgramSuite:
    suite = ProgramSuite()
    suite.engine = request.param
    return suite
