"""How a loop of the C core ends, by a drain or a stop: what Python sees, and what it does not.

That is connections of a silent verb, and pairs. A pair of which Python sees one side ends with that
side; what it sees nothing of is C's to end, and what movers have is theirs.
"""

from __future__ import annotations

from typing import Any

from muxcore.errors import Stopped
from muxcore.native.gathering import Gathering
from muxcore.native.mover import Mover

_ALL = 2**32 - 1


class Ending(Gathering):
    """What of an engine ends; ``NativeEpollEngine`` is the rest."""

    _counted: Any  # the loop's ``mux_stats``
    _movers: list[Mover]
    _moved_unseen: Any = None  # bytes of what Python does not see, at the last look

    # -- a drain

    def clients(self) -> int:
        return int(self._counted.open)

    def is_client(self, transport: Any) -> bool:
        slot = transport._slot, transport._generation
        return bool(self.lib.mux_is_client(self.loop, *slot) == 1)

    def take_nobody(self) -> None:
        super().take_nobody()
        self._stop_unseen(0)  # from now on each end is noticed
        self._drain_movers()

    def stop_idle(self) -> None:
        super().stop_idle()
        if self._moved_unseen is None:
            size = self.lib.mux_loop_slots(self.loop)
            self._moved_unseen = self.ffi.new("uint64_t[]", size)
        self._stop_unseen(_ALL, self._moved_unseen)

    def stop_clients(self, most: int) -> int:
        ended = super().stop_clients(most)  # the first: others are the other sides of these
        unseen = self._stop_unseen(most - ended)
        self._clean = self._clean and not unseen
        return ended + unseen

    def _stop_unseen(self, most: int, moved: Any = None) -> int:
        looked = self.ffi.NULL if moved is None else moved
        ended = int(self.lib.mux_stop_unseen(self.loop, most, looked))
        if ended:
            self.errors[Stopped.__name__] += ended
        return ended

    # -- a stop, which a drain becomes

    def is_over(self) -> bool:
        if not (self.ending or self.retiring):
            return False
        self._finish_drain()
        ends = self.ending or not self.draining
        return ends and not (self._counted.open or self._counted.outgoing or self._movers_have())

    def _close_all(self) -> None:
        super()._close_all()
        self.lib.mux_close_unseen(self.loop, 0)
        self._drain_movers()

    def _cut_short(self) -> None:
        self._clean = self._clean and not (self.lib.mux_unsent(self.loop) or self._movers_have())
        super()._cut_short()
        self.lib.mux_close_unseen(self.loop, 1)

    # -- what has gone to movers

    def _movers_have(self) -> bool:
        """Whether a mover has a connection, if only one that lingers."""
        return any(each.counted.open for each in self._movers)

    def _drain_movers(self) -> None:
        """Have the movers wake the loop whenever a connection is gone."""
        for mover in self._movers:
            mover.drain()
