"""The survival suite: caps, deadlines, fairness, faults. Each file is one kind of trouble."""

from muxcore.testing.suite import EngineSuite


class SurvivalSuite(EngineSuite):
    """Every kind of trouble, for one engine; see ``EngineSuite``."""
