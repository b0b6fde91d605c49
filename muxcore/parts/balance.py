"""Whether a worker is ahead of others that accept from the same socket: exact balance.

A client that waits wakes all of them. Who has more clients than another one leaves it to that one,
and looks again soon. One that does not come, since a callback holds it up, is not waited for.
"""

from __future__ import annotations

from muxcore.parts.cells import Cells

PAUSE = 0.001  # s between two looks at who is ahead; the others were woken too, and need far less
PATIENCE = 50  # looks: then those with fewer clients are held up
FIRST_GRANT = 16  # clients taken then, before they are waited for again; twice as many each time
MOST_GRANTED = 4096


class Balance:
    """How far one worker is.

    Args:
        cells: of all of them.
        mine: which one is its own.
    """

    def __init__(self, cells: Cells, mine: int) -> None:
        self._mine = cells[mine]
        self._others = [cells[at] for at in range(len(cells)) if at != mine]
        self._looks = self._grant = self._left = 0

    def is_ahead(self) -> bool:
        """Whether another one has fewer clients, and can take this one."""
        clients = self._mine.open
        return any(other.open < clients for other in self._others if other.serving)

    def may_accept(self) -> bool:
        """Whether the client that waits is this worker's to take."""
        if not self.is_ahead():
            self._looks = self._grant = self._left = 0
            return True
        if self._left:
            self._left -= 1
            return True
        self._looks += 1
        if self._looks <= PATIENCE:
            return False
        self._grant = min(2 * self._grant or FIRST_GRANT, MOST_GRANTED)
        self._looks, self._left = 0, self._grant - 1
        return True

    def nobody_waits(self) -> None:
        """Somebody has taken the client."""
        self._looks = 0
