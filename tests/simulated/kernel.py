"""A simulated kernel: descriptors, bounded buffers, a network, epoll and select, and a clock.

What it does by itself is what Linux does; what goes wrong beside that is drawn, call by call, from
the noise of the operation that a script is at. A descriptor has the lowest number that is free, so
a closed one comes up again at once.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Container
from typing import Any

from .ends import End, Listener

# What can go wrong, each a bit of Kernel.faults
SHORT_READ = 1  # recv returns less than there is; the rest is as if it came later
SHORT_WRITE = 2  # send takes less than there is room for
AGAIN = 4  # EAGAIN although the wait said ready
BROKEN = 8  # recv, send fail with an errno of the network
ACCEPT = 16  # accept fails: EMFILE, ENOMEM, ECONNABORTED, …
CONTROL = 32  # epoll_ctl fails with ENOSPC or ENOMEM
CREATE = 64  # socket, epoll_create1 fail with EMFILE
CONNECT = 128  # connect fails at once, or later
SPURIOUS = 256  # an event without a reason
LATE = 512  # events are told later, and in any order
SLOW = 1024  # bytes, FIN and RST take time to arrive
JUMPS = 2048  # the clock jumps ahead
URGENT = 4096  # recv stops at an urgent mark, tcp(7): short, and not empty
FAULTS = 8191

IN, PRI, OUT, ERR, HUP, RDHUP, ET = 1, 2, 4, 8, 16, 0x2000, 1 << 31
_ALWAYS = ERR | HUP  # reported whether asked for or not
_JUMP = 0.2  # s, at the most: more than most time-outs of a script


class Watch:
    """A registration of an epoll set; it belongs to the file, and remembers the number."""

    __slots__ = ("epoll", "events", "fd", "file", "ready")

    def __init__(self, epoll: Epoll, fd: int, file: Any, events: int) -> None:
        self.epoll = epoll
        self.fd, self.file, self.events = fd, file, events
        self.ready = bool(file.mask() & (events | _ALWAYS))


class Kernel:
    """All of it.

    Args:
        faults: which there are; the bits above.
        rate: how many of 1,024 calls meet a given fault.
        send_room: bytes of a socket's send buffer.
        receive_room: of its receive buffer.

    Attributes:
        now: the clock, in seconds.
        patience: seconds that a wait may sleep; it returns early then, as after a signal.
        moves: grows whenever anything happens.
    """

    def __init__(self, faults: int, rate: int, send_room: int, receive_room: int) -> None:
        self.faults = faults
        self.send_room, self.receive_room = send_room, receive_room
        self.now = 1000.0
        self.patience = 0.0
        self.moves = 0
        self.full = False  # whatever makes a descriptor fails with EMFILE
        self.noise = random.Random(0)
        self.files: dict[int, Any] = {}  # by descriptor
        self.ends: list[End] = []  # that have not come to their end
        self.held: list[Any] = []  # files that a forked child holds, too
        self.foreign: set[Any] = set()  # files of which somebody else closed the descriptor
        self.answers: deque[End] = deque()  # the other ends of what was connected to us
        self.sleep: float | None = 0.0  # what the last wait was asked for
        self.reported = 0  # events of the last wait
        self.trace: Any = None
        self.problem = ""  # what the engine did that nobody may
        self._share = rate / 1024
        self._reported_at = 0

    # -- what goes wrong

    def wrong(self, fault: int) -> bool:
        return bool(self.faults & fault) and self.noise.random() < self._share

    def error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number))

    # -- descriptors

    def install(self, file: Any) -> int:
        if self.full or self.wrong(CREATE):
            raise self.error(errno.EMFILE)
        return self.give(file)

    def give(self, file: Any, taken: Container[int] = ()) -> int:
        """Give a file the lowest number, whatever is wrong, but none of the ``taken``."""
        fd = 3
        while fd in self.files or fd in taken:
            fd += 1
        self.files[fd] = file
        file.refs += 1
        return fd

    def file(self, fd: int) -> Any:
        file = self.files.get(fd)
        if file is None:
            raise self.error(errno.EBADF)
        return file

    def close(self, fd: int, *, foreign: bool = False) -> None:
        file = self.file(fd)
        if foreign:
            self.foreign.add(file)
        elif any(w.fd == fd and w.epoll.fd >= 0 for w in file.watches) and (
            file not in self.foreign
        ):
            self.problem = self.problem or f"descriptor {fd} is closed, and still registered"
        del self.files[fd]
        self.put(file)

    def put(self, file: Any) -> None:
        file.refs -= 1
        self.moves += 1
        if not file.refs:
            for watch in file.watches:
                watch.file = None
            file.watches.clear()
            file.release()

    def fork(self, child: bool) -> None:
        """Let a forked child hold every descriptor of now; or let it end."""
        held, self.held = self.held, []
        for file in held:
            self.put(file)
        if child:
            self.held = list(self.files.values())
            for file in self.held:
                file.refs += 1

    # -- the network

    def pair(self) -> tuple[End, End]:
        one, two = End(self), End(self)
        one.other, two.other = two, one
        return one, two

    def move(self) -> None:
        """Let arrive what is on its way; what is slow, some of it."""
        slow = self.faults & SLOW
        for end in self.ends:
            if not slow or self.noise.random() < 0.7:
                end.push()
        self.ends = [end for end in self.ends if not end.over()]

    def calm(self) -> None:
        """From now on nothing goes wrong, and nothing is late."""
        self.faults, self.full = 0, False
        self.fork(False)

    # -- waiting

    def sleeps(self, timeout: float | None) -> None:
        """Let time pass in a wait in which nothing was ready."""
        self.now += self.patience if timeout is None else min(timeout, self.patience)

    def before_wait(self, timeout: float | None) -> None:
        self.sleep = timeout
        self.move()
        if self.wrong(JUMPS):
            self.now += self.noise.random() * _JUMP

    def after_wait(self, ready: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
        """Choose what of the ready is told now."""
        if self.faults & LATE:
            self.noise.shuffle(ready)
            ready = [each for each in ready if not self.wrong(LATE)]
        if len(ready) > most:  # the kernel goes round, too
            at = self._reported_at = (self._reported_at + most) % len(ready)
            ready = (ready[at:] + ready[:at])[:most]
        self.reported = len(ready)
        return ready


class Epoll:
    """``select.epoll``, and the file that it is."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.refs = 0
        self.watches: list[Watch] = []  # nobody watches it
        self.set: dict[tuple[int, Any], Watch] = {}
        self.fd = kernel.install(self)

    def mask(self) -> int:
        return 0

    def told(self, events: int) -> None:
        pass

    def _key(self, fd: int) -> tuple[int, Any]:
        return fd, self._kernel.file(fd)

    def _refused(self) -> None:
        if self._kernel.wrong(CONTROL):
            number = self._kernel.noise.choice((errno.ENOSPC, errno.ENOMEM))
            raise self._kernel.error(number)

    def register(self, fd: int, events: int) -> None:
        key = self._key(fd)
        if key[1] is self:
            raise self._kernel.error(errno.EINVAL)
        if key in self.set and self.set[key].file is not None:
            raise self._kernel.error(errno.EEXIST)
        self._refused_for(key[1])
        watch = self.set[key] = Watch(self, fd, key[1], events)
        key[1].watches.append(watch)

    def _refused_for(self, file: Any) -> None:
        try:
            self._refused()
        except OSError:
            file.hit = True
            raise

    def modify(self, fd: int, events: int) -> None:
        key = self._key(fd)
        watch = self.set.get(key)
        if watch is None:
            raise self._kernel.error(errno.ENOENT)
        watch.events = events
        watch.ready = bool(watch.file.mask() & (events | _ALWAYS))

    def unregister(self, fd: int) -> None:
        key = self._key(fd)
        watch = self.set.pop(key, None)
        if watch is None:
            raise self._kernel.error(errno.ENOENT)
        key[1].watches.remove(watch)

    def poll(self, timeout: float = -1, maxevents: int = -1) -> list[tuple[int, int]]:
        kernel = self._kernel
        wait = None if timeout < 0 else timeout
        kernel.before_wait(wait)
        ready = self._ready()
        if not ready and wait != 0:
            # epoll_wait(2) counts in milliseconds; Python rounds up
            kernel.sleeps(None if wait is None else -(-wait // 0.001) * 0.001)
            kernel.move()
            ready = self._ready()
        if kernel.wrong(SPURIOUS) and self.set:
            watch = kernel.noise.choice(list(self.set.values()))
            # of a connect(2) on its way Linux says nothing that is not so
            on_its_way = getattr(watch.file, "connecting", 0)
            if watch.file is not None and not on_its_way and watch.fd not in dict(ready):
                ready.append((watch.fd, (watch.events & (IN | OUT)) or IN))
        told = kernel.after_wait(ready, maxevents)
        for fd, events in told:
            for watch in self._watches_of(fd):
                watch.ready = False
                watch.file.told(events)
        return told

    def _watches_of(self, fd: int) -> list[Watch]:
        return [w for w in self.set.values() if w.fd == fd and w.file is not None]

    def _ready(self) -> list[tuple[int, int]]:
        ready = []
        gone = False
        for watch in self.set.values():
            if watch.file is None:
                gone = True
                continue
            if watch.events & ET and not watch.ready:
                continue
            mask = watch.file.mask() & (watch.events | _ALWAYS)
            if mask:
                ready.append((watch.fd, mask))
            else:
                watch.ready = False
        if gone:
            self.set = {key: watch for key, watch in self.set.items() if watch.file is not None}
        return ready

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._kernel.close(fd)

    def release(self) -> None:
        for watch in self.set.values():
            if watch.file is not None:
                watch.file.watches.remove(watch)
        self.set.clear()


def select(
    kernel: Kernel, readers: set[int], writers: set[int], timeout: float | None
) -> tuple[list[int], list[int], list[int]]:
    """``select.select``, which has no word for an error alone."""
    kernel.before_wait(timeout)

    def ready() -> list[tuple[int, int]]:
        found = []
        for fd in sorted(readers | writers):
            mask = kernel.file(fd).mask()  # or EBADF
            bits = IN if fd in readers and mask & (IN | HUP | ERR) else 0
            bits |= OUT if fd in writers and mask & (OUT | ERR) else 0
            if bits:
                found.append((fd, bits))
        return found

    found = ready()
    if not found and timeout != 0:
        kernel.sleeps(None if timeout is None else -(-timeout // 1e-6) * 1e-6)
        kernel.move()
        found = ready()
    if kernel.wrong(SPURIOUS) and readers:
        fd = kernel.noise.choice(sorted(readers))
        if fd not in dict(found):
            found.append((fd, IN))
    told = kernel.after_wait(found, 1 << 20)
    for fd, bits in told:
        kernel.file(fd).told(bits)
    return [f for f, bits in told if bits & IN], [f for f, bits in told if bits & OUT], []


__all__ = ["End", "Epoll", "Kernel", "Listener", "select"]
