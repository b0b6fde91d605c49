"""Who is waited for: connections to a pool's upstreams, looked at until the first byte has come."""

from __future__ import annotations

from muxcore.parts.outgoing import Connects
from muxcore.parts.rounds import Rounds
from muxcore.pool.trials import LOOKS, PROBE, Trials


def begin(trials: Trials, engine: Connects) -> None:
    """Look at a pool's trials from now on; in the engine's thread.

    Args:
        trials: they; once they are looked at, nothing is done.
        engine: the engine, or ``transport.server``.
    """
    if trials.on_begun is None:
        trials.on_begun = Rounds(engine, (trials.timeout or PROBE) / LOOKS).add
