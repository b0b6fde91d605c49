"""Proving an engine, ours or a third party's: a scripted peer, a recorder, and the two suites.

Needs pytest: ``pip install 'muxcore[test]'``. See ``suite.py`` for the two classes that one writes.
"""

import pytest

# a scenario that fails shows both sides
pytest.register_assert_rewrite("muxcore.testing.contract", "muxcore.testing.survival")

from muxcore.testing.contract import ContractSuite  # noqa: E402
from muxcore.testing.peer import DEADLINE, Peer, pattern  # noqa: E402
from muxcore.testing.recorder import FlowRecorder, Journal, Journaled, Recorder, data, lost  # noqa: E402
from muxcore.testing.suite import EngineSuite, Run, each_engine, eventually  # noqa: E402
from muxcore.testing.survival import ProcessSuite, SurvivalSuite  # noqa: E402

__all__ = [
    "DEADLINE",
    "ContractSuite",
    "EngineSuite",
    "FlowRecorder",
    "Journal",
    "Journaled",
    "Peer",
    "ProcessSuite",
    "Recorder",
    "Run",
    "SurvivalSuite",
    "data",
    "each_engine",
    "eventually",
    "lost",
    "pattern",
]

# What may change in any version: docs/stability.md. Scenarios are written with these.
_EXPERIMENTAL = (
    "FlowRecorder",
    "Journal",
    "Journaled",
    "Recorder",
    "Run",
    "data",
    "each_engine",
    "eventually",
    "lost",
)
