"""The epoll model: tell the kernel once what to watch, and be told only what is ready.

What to know of epoll(7):

- A turn costs in proportion to the connections that are *ready*, however many are open; there is no
  limit on a descriptor's number.
- The kernel keeps the registration, and it belongs to the open file, not to the descriptor: if a
  forked child still holds the file, closing the descriptor leaves the registration alive, and its
  events name a descriptor that may be somebody else's by then. EPOLL_CTL_DEL comes before close,
  always.
- EPOLLHUP and EPOLLERR are reported whether asked for or not, at every turn under a level trigger.
  A descriptor of which nothing is wanted is therefore watched under an edge trigger, which tells
  once; that is how a reset is heard by those who do not read.
- Under an edge trigger, data and FIN that arrive together are one event: see
  ``StreamTransport.read``. A receive also stops short in front of urgent data (recv(2), MSG_OOB),
  of which EPOLLPRI tells, at no cost where there is none.
- A registration can outlive its descriptor, where somebody else closed that and a child still has
  the file. Nobody can name it any more, so the whole set is made anew.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import ClassVar

from muxcore import forks
from muxcore.pure.poller import READ, WRITE
from muxcore.pure.readiness import ReadinessEngine

_EVENTS_PER_WAIT = 512  # what one epoll_wait returns; the rest comes at the next turn


_EDGE = (
    select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
    if hasattr(select, "epoll")
    else 0
)


class EpollPoller:
    """Who is ready, by epoll, level- or edge-triggered."""

    def __init__(self, trigger: str) -> None:
        self.edge = trigger == "edge"
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}
        self._forks = forks.count
        self._doubtful = False  # the set may hold a registration that nobody can name
        self._gone: list[int] = []  # descriptors that somebody else closed

    def refuse(self, fd: int) -> str | None:
        return None

    def watch(self, fd: int, mask: int) -> None:
        if forks.count != self._forks:
            return  # the set is the parent's too
        known = self._masks.get(fd)
        if known is None:
            # edge: once, for all; an edge that nobody wants costs nothing
            self._epoll.register(fd, _EDGE if self.edge else mask or select.EPOLLET)
        elif known != mask and not self.edge:
            self._epoll.modify(fd, mask or select.EPOLLET)
        self._masks[fd] = mask

    def forget(self, fd: int) -> None:
        if self._masks.pop(fd, None) is None or forks.count != self._forks:
            return
        try:
            self._epoll.unregister(fd)
        except OSError:  # somebody else closed it: the registration has ended, or has no name
            self._doubtful = True

    def wait(self, timeout: float | None) -> Sequence[tuple[int, int]]:
        if self._doubtful:
            self._renew()
        if self._gone:
            gone, self._gone = self._gone, []
            return [(fd, READ | WRITE) for fd in gone]
        # READ, WRITE and ERROR are EPOLLIN, EPOLLOUT and EPOLLERR
        return self._epoll.poll(-1 if timeout is None else timeout, _EVENTS_PER_WAIT)

    def close(self) -> None:
        self._epoll.close()
        self._masks.clear()

    def _renew(self) -> None:
        """Begin a new set; where that fails it is tried again at the next wait."""
        try:
            renewed = select.epoll()
        except OSError:  # EMFILE
            return
        self._epoll.close()
        self._epoll = renewed
        self._doubtful = False
        masks, self._masks = self._masks, {}
        for fd, mask in masks.items():
            try:
                self.watch(fd, mask)
            except OSError:
                self._gone.append(fd)


class EpollEngine(ReadinessEngine):
    """One process, one thread, epoll."""

    name = "pure-epoll"
    model = "epoll"
    capabilities: ClassVar[frozenset[str]] = ReadinessEngine.capabilities | {
        "edge_trigger",
        "hears_resets",
    }
    poller = EpollPoller

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if hasattr(select, "epoll"):
            return None
        return "it needs Linux: this system has no epoll", "take pure-select"
