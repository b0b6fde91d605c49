"""The survival suite on every engine that is available here."""

import pytest

from muxcore.testing import SurvivalSuite, each_engine

_SUITES = each_engine(SurvivalSuite)
for _suite in _SUITES.values():
    # What an engine outlives it does in any host; uvloop's adapter is asyncio's on another loop.
    if _suite.host or _suite.engine == "uvloop":
        pytest.mark.deep(_suite)
globals().update(_SUITES)
