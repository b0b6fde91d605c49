"""poll(2) as an engine of muxcore: select without its limit on descriptors."""

from __future__ import annotations

import select
from collections.abc import Sequence

from muxcore.pure.readiness import ReadinessEngine


class Poller:
    """Who is ready, by poll()."""

    def __init__(self, trigger: str) -> None:
        self._poll = select.poll()
        self._watched: set[int] = set()

    def refuse(self, fd: int) -> str | None:
        return None

    def watch(self, fd: int, mask: int) -> None:
        if mask == 0:  # POLLHUP comes unasked, at every turn
            self.forget(fd)
            return
        self._poll.register(fd, mask)  # READ and WRITE are POLLIN and POLLOUT
        self._watched.add(fd)

    def forget(self, fd: int) -> bool:
        if fd in self._watched:
            self._watched.discard(fd)
            self._poll.unregister(fd)
        return True  # poll(2) keeps nothing that could tell whose the number is by now

    def wait(self, timeout: float | None) -> Sequence[tuple[int, int]]:
        # rounded up: a timer that is due in 0.4 ms must not make it spin until then
        return self._poll.poll(None if timeout is None else -(-timeout * 1000 // 1))

    def close(self) -> None:
        self._watched.clear()


class PollEngine(ReadinessEngine):
    """One process, one thread, poll()."""

    name = "poll"
    model = "select"
    capabilities = ReadinessEngine.capabilities
    poller = Poller
