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
- Under an edge trigger the kernel says "ready" once: whoever stops before EAGAIN has to come back
  unasked. Data and FIN that arrive together are one event; a receive also stops short in front of
  urgent data (recv(2), MSG_OOB), of which EPOLLPRI tells, at no cost where there is none.
- A registration can outlive its descriptor, where somebody else closed that and a child still has
  the file. Nobody can name it any more, so the whole set is made anew.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Sequence
from typing import ClassVar

from muxcore import _forks
from muxcore.limits import Limits
from muxcore.parts.states import HOLD_CLOSING, HOLD_EOF, LOST, OPEN
from muxcore.parts.timers import sooner
from muxcore.pure.poller import READ, WRITE
from muxcore.pure.readiness import ReadinessEngine
from muxcore.pure.stream_transport import StreamTransport

_EVENTS_PER_WAIT = 512  # what one epoll_wait returns; the rest comes at the next turn
# s; a set that cannot be made anew for want of descriptors or memory is tried again after so long
_RETRY = 0.1
_FULL = frozenset({errno.ENOMEM, errno.ENOSPC})  # epoll_ctl(2): of a descriptor that is good

_EDGE = (
    select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
    if hasattr(select, "epoll")
    else 0
)


class EpollPoller:
    """Who is ready, by epoll, level- or edge-triggered."""

    def __init__(self, trigger: str) -> None:
        self._edge = trigger == "edge"
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}
        self._process = _forks.current
        self._doubtful = False  # the set may hold a registration that nobody can name
        self._waiting: dict[int, int] = {}  # of the last set: this one had no room for them
        self._gone: list[int] = []  # descriptors that somebody else closed
        self._watched = False  # by a host loop
        self._retired: select.epoll | None = None  # the set before, which the host may watch still

    def refuse(self, fd: int) -> str | None:
        return None

    def watch(self, fd: int, mask: int) -> None:
        if _forks.current is not self._process:
            return  # the set is the parent's too
        self._waiting.pop(fd, None)
        known = self._masks.get(fd)
        if known is None:
            self._register(fd, mask)
        elif known != mask and not self._edge:
            self._epoll.modify(fd, mask or select.EPOLLET)
        self._masks[fd] = mask

    def _register(self, fd: int, mask: int) -> None:
        # edge: once, for all; an edge that nobody wants costs nothing
        self._epoll.register(fd, _EDGE if self._edge else mask or select.EPOLLET)

    def forget(self, fd: int) -> bool:
        self._waiting.pop(fd, None)
        if self._masks.pop(fd, None) is None or _forks.current is not self._process:
            return True
        try:
            self._epoll.unregister(fd)
        except OSError:  # somebody else closed it: the registration has ended, or has no name
            self._doubtful = True
            return False
        return True

    def wait(self, timeout: float | None) -> Sequence[tuple[int, int]]:
        if self._retired is not None:
            self._close_retired()
        if self._doubtful:
            self._renew()
        elif self._waiting:
            self._watch_waiting()
        if self._doubtful or self._waiting:
            timeout = sooner(timeout, _RETRY)
        if self._gone:
            gone, self._gone = self._gone, []
            return [(fd, READ | WRITE) for fd in gone]
        # READ, WRITE and ERROR are EPOLLIN, EPOLLOUT and EPOLLERR
        return self._epoll.poll(-1 if timeout is None else timeout, _EVENTS_PER_WAIT)

    def due(self) -> float | None:
        """Return in how many seconds a wait is due that ``fileno()`` does not ask for."""
        if self._gone or self._retired is not None:
            return 0.0
        return _RETRY if self._doubtful or self._waiting else None

    def fileno(self) -> int:
        """Return the set's descriptor, to watch it; it is another one once ``due()`` was 0."""
        self._watched = True
        return self._epoll.fileno()

    def close(self) -> None:
        self._close_retired()
        self._epoll.close()
        self._masks.clear()

    def _renew(self) -> None:
        """Begin a new set; where that fails it is tried again at the next wait."""
        try:
            renewed = select.epoll()
        except OSError:  # EMFILE
            return
        self._retired, self._epoll = self._epoll, renewed
        if not self._watched:
            self._close_retired()
        self._doubtful = False
        self._waiting.update(self._masks)
        self._masks.clear()
        self._watch_waiting()

    def _close_retired(self) -> None:
        if self._retired is not None:
            self._retired.close()
            self._retired = None

    def _watch_waiting(self) -> None:
        """Watch what the set has no room for, as far as there is some now."""
        for fd, mask in list(self._waiting.items()):
            try:
                self._register(fd, mask)
            except OSError as exc:
                if exc.errno in _FULL:
                    continue
                self._gone.append(fd)
            del self._waiting[fd]
            self._masks[fd] = mask


class EdgeTransport(StreamTransport):
    """A connection of which the kernel tells once."""

    __slots__ = ()

    def read(self, events: int) -> None:
        """Receive until nothing is left, this turn's budget is spent, or reading is held.

        A short receive means that the socket is empty, and saves the receive that would say so; but
        a FIN that came with the data gives no event of its own, nor does what stands behind urgent
        data, so after these only EAGAIN or EOF ends the reading.
        """
        limits = self._engine.limits
        chunk = size = limits.read_chunk
        to_the_end = events & ~(READ | WRITE)
        for _ in range(limits.reads_per_turn):
            if self._hold and (self._hold != HOLD_CLOSING or self._state == LOST):
                if size == chunk and not self._hold & HOLD_EOF:
                    self._unread = True  # it was told of, and is left
                return
            if self._limited is not None and not (chunk := self._room()):
                return
            size = self._receive(chunk)
            if size < 0 or (size < chunk and not to_the_end):
                return
        self._engine.left_over(self.go_on)

    def _ended(self) -> int:
        was_open = self._state == OPEN
        super()._ended()
        # recv(2) hides a reset behind the FIN, and an edge has told of both at once
        if was_open and self._state == OPEN:
            self._heard_error()
        return -1

    def _reading_changed(self) -> None:
        super()._reading_changed()
        if self._state != LOST and not self._hold & ~HOLD_CLOSING:
            self._engine.left_over(self.go_on)  # the edge may have come while reading was held


class EpollEngine(ReadinessEngine):
    """One process, one thread, epoll."""

    name = "pure-epoll"
    model = "epoll"
    capabilities: ClassVar[frozenset[str]] = ReadinessEngine.capabilities | {
        "edge_trigger",
        "guest",
        "hears_resets",
        "rates",
    }
    poller = EpollPoller
    _poller: EpollPoller

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if hasattr(select, "epoll"):
            return None
        return "it needs Linux: this system has no epoll", "take pure-select"

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self._left: dict[Callable[[], object], None] = {}  # those that have to come back
        if trigger == "edge":
            self.transport_class = EdgeTransport

    def due(self) -> float | None:
        return sooner(super().due(), self._poller.due())

    def watched(self) -> int:
        return self._poller.fileno()

    def left_over(self, go_on: Callable[[], object]) -> None:
        if self.trigger == "edge":
            if not self._left:
                self.call_soon(self._go_on)
            self._left[go_on] = None

    def _go_on(self) -> None:
        left, self._left = self._left, {}
        for go_on in left:
            go_on()
