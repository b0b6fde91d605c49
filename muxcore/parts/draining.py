"""A drain: nobody new is taken, who is here may finish, and who does not is ended, step by step.

::

    asked ── drain_delay ──► listeners close ── drain_timeout ──► the rest ends ──► a stop
    protocols hear it        who is idle ends (drain_idle)        over drain_spread

It is over before that with the last client: then, too, it becomes a stop, which closes what the
program itself has opened. A generator has the steps; the engine has the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from muxcore.limits import Limits
from muxcore.parts.timers import LONGEST_WAIT

_STEP = 0.05  # s between two ends of a spread, at least: a look at all clients costs milliseconds


class Drains(Protocol):
    """What a drain asks of its engine."""

    limits: Limits
    stopped: int
    on_phase: Callable[[str], object]

    def tell_draining(self) -> None:
        """Let every protocol hear of it, those that come later too."""

    def take_nobody(self) -> None:
        """Close the listeners, and stop once nobody is here."""

    def stop_idle(self) -> None:
        """End the clients in which no byte has moved since the last call, and none is queued."""

    def clients(self) -> int:
        """Return how many are here, of those that others have opened."""

    def stop_clients(self, most: int) -> int:
        """End so many of them, and return how many those were."""

    def stop(self) -> None: ...


def steps(engine: Drains, timeout: float | None) -> Iterator[float]:
    """Take the next step at each call, and yield the seconds until the one after it.

    Args:
        engine: whose clients are to go; once it is ending there are no more steps to take.
        timeout: seconds that they have; None means ``Limits.drain_timeout``.
    """
    limits = engine.limits
    engine.on_phase("draining")
    engine.tell_draining()
    if limits.drain_delay:
        yield limits.drain_delay
    engine.take_nobody()
    engine.on_phase("closed")
    yield from _finishing(engine, limits.drain_timeout if timeout is None else timeout)
    yield from _ending(engine)
    engine.stopped += engine.stop_clients(engine.clients())
    engine.on_phase("over")
    engine.stop()


def _finishing(engine: Drains, timeout: float | None) -> Iterator[float]:
    until = math.inf if timeout is None else monotonic() + timeout
    idle = engine.limits.drain_idle
    while (left := until - monotonic()) > 0:
        if idle is not None:
            engine.stop_idle()
        yield min(left, LONGEST_WAIT if idle is None else idle)


def _ending(engine: Drains) -> Iterator[float]:
    until = monotonic() + engine.limits.drain_spread
    while (wait := until - monotonic()) > 0 and (here := engine.clients()):
        pause = max(wait / here, _STEP)
        engine.stopped += engine.stop_clients(math.ceil(here * pause / wait))
        yield min(pause, wait)
