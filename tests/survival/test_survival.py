"""The survival suite on every engine that is available here."""

import pytest

from muxcore.testing import SurvivalSuite, each_engine

_SUITES = each_engine(SurvivalSuite)
for _suite in _SUITES.values():
    # A trigger is the engine's own affair: one host for each engine is enough for now.
    if _suite.host and _suite.trigger == "edge":
        pytest.mark.deep(_suite)
globals().update(_SUITES)
