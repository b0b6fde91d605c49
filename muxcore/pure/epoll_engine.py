"""The epoll model: tell the kernel once what to watch, and be told only what is ready.

What to know of epoll(7):

- A turn costs in proportion to the connections that are *ready*, however many are open; there is no
  limit on a descriptor's number.
- The kernel keeps the registration, and it belongs to the open file, not to the descriptor: if a
  forked child still holds the file, closing the descriptor leaves the registration alive, and its
  events name a descriptor that may be somebody else's by then. EPOLL_CTL_DEL comes before close,
  always.
- EPOLLHUP and EPOLLERR are reported whether asked for or not, at every turn under a level trigger.
  A descriptor of which nothing is wanted is therefore unregistered, or it would spin.
- Under an edge trigger, data and FIN that arrive together are one event: see
  ``StreamTransport.read``.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import ClassVar

from muxcore.pure.poller import READ, WRITE
from muxcore.pure.readiness import ReadinessEngine

_EVENTS_PER_WAIT = 512  # what one epoll_wait returns; the rest comes at the next turn


class EpollPoller:
    """Who is ready, by epoll, level- or edge-triggered."""

    def __init__(self, trigger: str) -> None:
        self.edge = trigger == "edge"
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}

    def refuse(self, fd: int) -> str | None:
        return None

    def watch(self, fd: int, mask: int) -> None:
        if self.edge:
            if fd not in self._masks:  # once, for all: an edge that nobody wants costs nothing
                self._masks[fd] = mask
                events = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
                self._epoll.register(fd, events)
        elif mask == 0:
            self.forget(fd)
        elif fd not in self._masks:
            self._masks[fd] = mask
            self._epoll.register(fd, mask)  # READ and WRITE are EPOLLIN and EPOLLOUT
        elif self._masks[fd] != mask:
            self._masks[fd] = mask
            self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        if self._masks.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # somebody else closed it, which ended the registration

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int, bool]]:
        events = self._epoll.poll(-1 if timeout is None else timeout, _EVENTS_PER_WAIT)
        return [(fd, *_meaning(mask)) for fd, mask in events]

    def close(self) -> None:
        self._epoll.close()
        self._masks.clear()


def _meaning(events: int) -> tuple[int, bool]:
    """Translate epoll's bits: after a hang-up or an error both calls will say what happened."""
    if events & (select.EPOLLHUP | select.EPOLLERR):
        return READ | WRITE, True
    return events & (READ | WRITE), bool(events & select.EPOLLRDHUP)


class EpollEngine(ReadinessEngine):
    """One process, one thread, epoll."""

    name = "pure-epoll"
    model = "epoll"
    capabilities: ClassVar[frozenset[str]] = ReadinessEngine.capabilities | {"edge_trigger"}
    poller = EpollPoller

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if hasattr(select, "epoll"):
            return None
        return "it needs Linux: this system has no epoll", "take pure-select"
