"""How a server's end is told: whether it is ready, two lines in the log, and who is to hear."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from muxcore.abc import Engine, logger


class Phases:
    """What is known of one server's end.

    Args:
        engine: the server's; it tells of its phases from now on.
        begins: called in the engine's thread once an end begins.

    Attributes:
        asked: an end was asked for: nobody new should be sent here.
        quiet: its drain is somebody else's to tell of: a worker's is its parent's.
        until: monotonic(), by which what was asked for has ended; None: that is not known.
    """

    def __init__(self, engine: Engine, begins: Callable[[], object]) -> None:
        self.asked = self.quiet = False
        self._by = ""  # the name of the signal that asked for it
        self.heir = 0  # the pid of the process that has taken over
        self.until: float | None = None
        self._timeout = engine.limits.drain_timeout  # s; None: as long as they like
        self._engine = engine
        self._begins = begins
        self._told = False
        self._over = False  # a drain's time was over; else a stop cut it short
        self._cut = 0  # clients that were here then
        self._gone = -1  # clients that had gone when the drain began; -1: it has not
        self._began = 0.0
        engine.on_phase = self._heard

    def ask_stop(self) -> None:
        """A stop is asked for."""
        self.asked = True
        self.until = monotonic() + self._engine.limits.stop_timeout

    def ask(self, timeout: float | None, by: str = "", heir: int = 0) -> None:
        """A drain is asked for; the first time counts.

        Args:
            timeout: seconds that clients have; None means ``Limits.drain_timeout``.
            by: the name of the signal that did it.
            heir: the pid of the process that has taken over, where that did it.
        """
        if self.asked:
            return
        self.asked, self._by, self.heir = True, by, heir
        limits = self._engine.limits
        if timeout is not None:
            self._timeout = timeout
        if self._timeout is not None:
            took = limits.drain_delay + self._timeout + limits.drain_spread + limits.stop_timeout
            self.until = monotonic() + took

    def _heard(self, phase: str) -> None:
        if phase == "draining":
            self._drain_begins()
        elif phase == "over":
            self._over = True
        elif phase == "ending" and not self._over:
            self._cut = self._engine.stats().open
        if not self._told:
            self._told = True
            self._begins()

    def _drain_begins(self) -> None:
        stats, delay = self._engine.stats(), self._engine.limits.drain_delay
        self._gone, self._began = stats.total - stats.open, monotonic()
        by, again = (f"{self._by}: ", "; again to end them") if self._by else ("", "")
        if self.heir:
            by = f"process {self.heir} has taken over"
            if not stats.open:
                logger.info("%s", by)
            by += "; "
        if self.quiet or not (stats.open or delay):
            return
        how_long = "as long as they like" if self._timeout is None else f"up to {self._timeout:g} s"
        first = f", after {delay:g} s in which more may come" if delay else ""
        clients = _clients(stats.open)
        logger.info("%sdraining %s for %s%s%s", by, clients, how_long, first, again)

    def ended(self) -> None:
        """The engine has ended: say how the drain went, if there was one."""
        gone, self._gone = self._gone, -1
        if gone < 0 or self.quiet:
            return
        total = self._engine.stats().total - gone
        stopped = min(total, self._engine.stopped + self._cut)
        if total:
            took = monotonic() - self._began
            logger.info("%d finished, %d stopped after %.1f s", total - stopped, stopped, took)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"
