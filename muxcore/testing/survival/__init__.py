"""The survival suite: caps, deadlines, fairness, faults. Each file is one kind of trouble."""

from muxcore.testing.survival.clients import Clients
from muxcore.testing.survival.deadlines import Deadlines
from muxcore.testing.survival.descriptors import Descriptors
from muxcore.testing.survival.draining import Draining
from muxcore.testing.survival.ending import Ending
from muxcore.testing.survival.extremes import Extremes
from muxcore.testing.survival.finishing import Finishing
from muxcore.testing.survival.forks import Forks
from muxcore.testing.survival.misuse import Misuse
from muxcore.testing.survival.processes import ProcessSuite
from muxcore.testing.survival.relays import Relays
from muxcore.testing.survival.turns import Turns

__all__ = ["ProcessSuite", "SurvivalSuite"]


class SurvivalSuite(
    Clients,
    Deadlines,
    Turns,
    Descriptors,
    Extremes,
    Forks,
    Misuse,
    Relays,
    Ending,
    Draining,
    Finishing,
):
    """Every kind of trouble, for one engine; see ``EngineSuite``."""
