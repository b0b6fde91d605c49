"""The contract suite on every engine that is available here."""

import pytest

from muxcore.testing import ContractSuite, each_engine

_SUITES = each_engine(ContractSuite)
for _suite in _SUITES.values():
    # A trigger is the engine's own affair, and uvloop's adapter is asyncio's on another loop.
    if (_suite.host and _suite.trigger == "edge") or _suite.engine == "uvloop":
        pytest.mark.deep(_suite)
globals().update(_SUITES)
