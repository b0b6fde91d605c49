"""The select model: hand the kernel every descriptor at each turn, and be told which are ready.

What to know of select(2):

- The kernel looks at every watched descriptor at each call, and so does Python before and after: a
  turn costs in proportion to the connections that are *open*, not to those that are ready.
- It takes a bit set of FD_SETSIZE = 1,024 bits, on 32 and on 64 bits alike. A descriptor of that
  number or above does not fit, however few are watched; Python refuses it with ValueError.
- Nothing is kept between two calls, so nothing can be stale.
- It has no word for an error alone: a connection that is not to be read is not watched, so a reset
  is heard only when it is read again, or sent to.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from typing import ClassVar

from muxcore.pure.poller import READ, WRITE
from muxcore.pure.readiness import ReadinessEngine

FD_SETSIZE = 1024  # <sys/select.h>; fixed when libc was compiled, whatever `ulimit -n` says


class SelectPoller:
    """Who is ready, by select()."""

    def __init__(self, trigger: str) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def refuse(self, fd: int) -> str | None:
        if fd < FD_SETSIZE:
            return None
        return f"select() cannot watch descriptor {fd}: its limit is FD_SETSIZE = {FD_SETSIZE}"

    def watch(self, fd: int, mask: int) -> None:
        (self._readers.add if mask & READ else self._readers.discard)(fd)
        (self._writers.add if mask & WRITE else self._writers.discard)(fd)

    def forget(self, fd: int) -> bool:
        self._readers.discard(fd)
        self._writers.discard(fd)
        return True

    def wait(self, timeout: float | None) -> Sequence[tuple[int, int]]:
        try:
            readers, writers, _ = select.select(self._readers, self._writers, (), timeout)
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise
            return self._closed_by_others()
        ready = dict.fromkeys(readers, READ)
        for fd in writers:
            ready[fd] = ready.get(fd, 0) | WRITE
        return list(ready.items())

    def close(self) -> None:
        self._readers.clear()
        self._writers.clear()

    def _closed_by_others(self) -> list[tuple[int, int]]:
        """Report the descriptors that somebody else closed: using them tells their owner."""
        closed = []
        for fd in self._readers | self._writers:
            try:
                os.fstat(fd)
            except OSError:
                closed.append((fd, READ | WRITE))
        return closed


class SelectEngine(ReadinessEngine):
    """One process, one thread, select()."""

    name = "pure-select"
    model = "select"
    capabilities: ClassVar[frozenset[str]] = ReadinessEngine.capabilities | {"rates"}
    poller = SelectPoller
