"""What a third party writes to prove an engine."""

import muxcore.testing


class TestContract(muxcore.testing.ContractSuite):
    engine = "poll"


class TestSurvival(muxcore.testing.SurvivalSuite):
    engine = "poll"
