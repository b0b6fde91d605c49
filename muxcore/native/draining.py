"""A drain of what Python sees, and of what it does not: connections of a silent verb, and pairs.

A pair of which Python sees one side ends with that side; what it sees nothing of is C's to end.
"""

from __future__ import annotations

from typing import Any

from muxcore.errors import Stopped
from muxcore.native.gathering import Gathering

_ALL = 2**32 - 1


class Draining(Gathering):
    """What of an engine drains; ``NativeEpollEngine`` is the rest."""

    _moved_unseen: Any = None  # bytes of what Python does not see, at the last look

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

    def _drain_movers(self) -> None:
        """Have the movers wake the loop whenever a connection is gone."""
