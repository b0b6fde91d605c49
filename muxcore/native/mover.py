"""A loop of the C core in a thread of its own, which has joined pairs and nothing else.

Its thread is in C from its beginning to its end, without the GIL: pairs come, and their ends go,
through queues that are C's (csrc/moved.h).
"""

from __future__ import annotations

import threading
from typing import Any

from muxcore.limits import Limits
from muxcore.native import core
from muxcore.parts.waker import Waker


class Mover:
    """One mover; it begins when it is made.

    Args:
        loop: the ``mux_loop *`` that gives it pairs.
        limits, edge: the loop's.
        waker: the loop's.
        counters: its own; they outlive it.

    Attributes:
        counted: the same, its ``mux_stats``.

    Raises:
        OSError: what failed, and why.
        RuntimeError: no thread can be started.
    """

    def __init__(self, loop: Any, limits: Limits, edge: bool, waker: Waker, counters: Any) -> None:
        self._waker = Waker()
        self.counted = counters
        try:
            self._mover = core.new_mover(limits, edge, self._waker, self.counted, waker)
        except OSError:
            self._waker.close()
            raise
        self._thread = threading.Thread(
            target=core.lib.mux_mover_run, args=(self._mover,), name="muxcore-mover", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._free()
            raise
        core.lib.mux_loop_give_to(loop, self._mover)

    def drain(self) -> None:
        """Have the loop woken whenever a connection is gone."""
        core.lib.mux_mover_drain(self._mover)

    def end(self) -> None:
        """End its thread and what it has; in a fork, which has no such thread, close the copies."""
        core.lib.mux_mover_stop(self._mover)
        self._thread.join()
        self._free()

    def _free(self) -> None:
        core.lib.mux_mover_free(self._mover)
        self._waker.close()


def end_all(movers: list[Mover]) -> None:
    """End the movers of a loop that is polled no more."""
    for mover in movers:
        mover.end()
