"""The files of the simulated kernel: the two ends of a TCP connection, and listeners.

The rules are Linux's: net/ipv4/tcp.c (tcp_poll, tcp_recvmsg, tcp_close) and tcp_input.c
(tcp_reset), as far as a program can see them.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

IN, PRI, OUT, ERR, HUP, RDHUP, ET = 1, 2, 4, 8, 16, 0x2000, 1 << 31
_EVERYTHING = IN | PRI | OUT | ERR | HUP | RDHUP


class End:
    """One end of a connection.

    Attributes:
        conn: the connection as the test knows it.
        hit: a fault has broken it; whatever is told of that is right.
        was_reset: a reset has arrived.
        known: input is unread of which a wait has told, or which came while nobody was to read.
        unknown: it was closed with unread input of which nobody could know.
        paused: nobody is to read: what comes is known to be unread.
        received: bytes that were received from it; dropped ones included.
        fin_at: when it sent its FIN, on the simulated clock.
        closed_at: when nobody held it any more.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.other: End | None = None
        self.conn: Any = None
        self.peername: Any = None
        self.sound = False  # no fault meets it: it is the test's, or no connection
        self.refs = 0
        self.watches: list[Any] = []
        self.inbox, self.outbox = bytearray(), bytearray()
        self.send_room, self.receive_room = kernel.send_room, kernel.receive_room
        self.fin_out = self.fin_told = self.fin_in = False
        self.reset_out = False  # on its way to the other
        self.errno = 0
        self.dead = self.gone = self.resets = self.nospace = False
        self.connecting = 0  # a kind of address, until it is decided
        self.urgent = -1  # where in the inbox the mark is
        self.hit = self.was_reset = self.known = self.unknown = self.paused = False
        self.received = self.taken = 0
        self.fin_at = self.closed_at = -1.0
        kernel.ends.append(self)

    # -- what a wait sees

    def mask(self) -> int:
        if self.connecting:
            return 0
        mask = ERR if self.errno else 0
        if self.inbox or self.fin_in or self.dead:
            mask |= IN
        if self.fin_in or self.dead:
            mask |= RDHUP
        if self.dead or (self.fin_in and self.fin_out):
            mask |= HUP
        if self.urgent >= 0:
            mask |= PRI
        if self.dead or self.fin_out or self._writable():
            mask |= OUT
        return mask

    def _writable(self) -> bool:
        return self.send_room - len(self.outbox) >= (len(self.outbox) + 1) // 2

    def told(self, events: int) -> None:
        if events & ~OUT and self.inbox:
            self.known = True

    def wake(self, bits: int) -> None:
        for watch in self.watches:
            if (watch.events | ERR | HUP) & bits:
                watch.ready = True
        self._kernel.moves += 1

    # -- system calls

    def recv(self, most: int) -> bytes:
        kernel = self._kernel
        if self.inbox:
            size = min(most, len(self.inbox))
            if kernel.faults and not self.sound:
                if kernel.wrong(4):
                    self._later()
                    raise kernel.error(errno.EAGAIN)
                if kernel.wrong(8):
                    raise self._broken()
                if size > 1 and kernel.wrong(1):
                    size = kernel.noise.randrange(1, size)
                    self._later()
            if 0 < self.urgent < size:
                size = self.urgent
                self.known = False  # under a level trigger it looks like all that there was
            data = bytes(self.inbox[:size])
            del self.inbox[:size]
            if self.urgent >= 0:
                self.urgent = self.urgent - size if self.urgent > size else -1
            if self.urgent == 0 or not self.inbox:
                self.urgent = -1
            if not self.inbox:
                self.known = False
            self.received += size
            kernel.moves += 1
            return data
        if self.fin_in:  # tcp_recvmsg() asks for SOCK_DONE first
            return b""
        self._say_error()
        if self.dead:
            return b""
        raise kernel.error(errno.EAGAIN)

    def _later(self) -> None:
        """What is left is as if it came in a moment."""
        self.known = False
        self.wake(IN)

    def _say_error(self) -> None:
        if self.errno:
            number, self.errno = self.errno, 0
            raise self._kernel.error(number)

    def _broken(self) -> OSError:
        self.hit = True
        self.die(0)
        number = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET, errno.ENETDOWN)
        return self._kernel.error(self._kernel.noise.choice(number))

    def send(self, data: Any) -> int:
        kernel = self._kernel
        self._say_error()
        if self.dead or self.fin_out:
            raise kernel.error(errno.EPIPE)
        size = min(self.send_room - len(self.outbox), len(data))
        if size <= 0 and len(data):
            self.nospace = True
            raise kernel.error(errno.EAGAIN)
        if kernel.faults and not self.sound:
            if kernel.wrong(4):
                self.nospace = True
                self.wake(OUT)
                raise kernel.error(errno.EAGAIN)
            if kernel.wrong(8):
                raise self._broken()
            if size > 1 and kernel.wrong(2):
                size = kernel.noise.randrange(1, size)
                self.wake(OUT)
        if size < len(data):
            self.nospace = True
        self.outbox += data[:size]
        self.taken += size
        kernel.moves += 1
        return size

    def shutdown(self) -> None:
        if self.dead:
            raise self._kernel.error(errno.ENOTCONN)
        if not self.fin_out:
            self.fin_out = True
            self.fin_at = self._kernel.now
            self.wake(OUT | (HUP if self.fin_in else 0))

    def error_option(self) -> int:
        number, self.errno = self.errno, 0
        return number

    def unsent(self) -> int:
        return len(self.outbox) + (self.fin_out and not self.fin_told and not self.dead)

    def release(self) -> None:
        """Nobody holds it any more."""
        self.gone = True
        self.closed_at = self._kernel.now
        if self.dead or self.connecting:
            self.dead = True
            return
        if self.inbox or self.resets:
            self.unknown = bool(self.inbox) and not self.known and not self.resets
            self.die(0)
            return
        if not self.fin_out:
            self.fin_out = True
            self.fin_at = self._kernel.now

    # -- the network

    def die(self, number: int) -> None:
        """Be closed at once, and tell the other by a reset."""
        self.dead = True
        self.errno = number
        self.outbox.clear()
        self.reset_out = True
        self.wake(_EVERYTHING)

    def reset(self) -> None:
        """A reset arrives."""
        if self.dead:
            return
        self.was_reset = self.dead = True
        # tcp_reset(): EPIPE in CLOSE_WAIT
        self.errno = errno.EPIPE if self.fin_in and not self.fin_out else errno.ECONNRESET
        self.outbox.clear()
        self.wake(_EVERYTHING)

    def push(self) -> None:
        """What this end has sent arrives at the other, as far as that has room."""
        other = self.other
        if self.connecting:
            self._decide()
            return
        if other is None:
            return
        if self.reset_out:
            self.reset_out = False
            other.reset()
            return
        if self.outbox:
            self._push_bytes(other)
        if self.fin_out and not self.fin_told and not self.outbox and not self.dead:
            self.fin_told = other.fin_in = True
            other.wake(_EVERYTHING)
            if other.fin_told:  # TCP_CLOSE, for either
                self.dead = other.dead = True

    def _push_bytes(self, other: End) -> None:
        if other.gone:  # what comes to a closed end is answered by a reset
            other.dead = True
            other.outbox.clear()
            self.reset()
            return
        if other.dead:
            return
        size = min(other.receive_room - len(other.inbox), len(self.outbox))
        if size <= 0:
            return
        if size > 1 and self._kernel.faults & 1024 and self._kernel.noise.random() < 0.3:
            size = self._kernel.noise.randrange(1, size)
        other.inbox += self.outbox[:size]
        del self.outbox[:size]
        if other.paused:
            other.known = True
        other.wake(IN)
        if self.nospace and self._writable():
            self.nospace = False
            self.wake(OUT)

    def over(self) -> bool:
        """Nothing will come of it any more."""
        if self.reset_out:
            return False
        return self.gone and (self.dead or (self.fin_told and not self.outbox))

    # -- connect(2)

    def connect(self, kind: int) -> int:
        kernel = self._kernel
        if kernel.wrong(128):
            self.hit = True
            numbers = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ETIMEDOUT, errno.ECONNREFUSED)
            return int(kernel.noise.choice(numbers))
        self.connecting = kind
        return errno.EINPROGRESS

    def _decide(self) -> None:
        kernel = self._kernel
        if self.gone or self.connecting == 3:  # nobody answers
            return
        kind, self.connecting = self.connecting, 0
        if kind == 2 or kernel.wrong(128):
            self.dead = self.hit = True
            self.errno = errno.ECONNREFUSED if kind == 2 else errno.ETIMEDOUT
        else:
            self.other = End(kernel)
            self.other.sound = True
            self.other.refs = 1
            self.other.other = self
            kernel.answers.append(self.other)
        self.wake(_EVERYTHING)


class Listener:
    """A listening socket."""

    BACKLOG = 8

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.refs = 0
        self.watches: list[Any] = []
        self.waiting: deque[End] = deque()
        self.hit = self.gone = False
        self.last: End | None = None  # what was accepted last

    def mask(self) -> int:
        return IN if self.waiting else 0

    def told(self, events: int) -> None:
        pass

    def arrive(self, end: End) -> None:
        self.waiting.append(end)
        for watch in self.watches:
            watch.ready = True
        self._kernel.moves += 1

    def accept(self) -> tuple[int, End]:
        kernel = self._kernel
        if not self.waiting:
            raise kernel.error(errno.EAGAIN)
        if kernel.full:
            raise kernel.error(errno.EMFILE)
        if kernel.wrong(16):
            numbers = "EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EPROTO EINTR EPERM".split()
            name = kernel.noise.choice(numbers)
            if name in ("ECONNABORTED", "EPROTO", "EPERM"):
                self._drop()
            raise kernel.error(getattr(errno, name))
        self.last = end = self.waiting.popleft()
        kernel.moves += 1
        return kernel.give(end), end

    def _drop(self) -> None:
        end = self.waiting.popleft()
        end.hit = end.gone = True
        end.die(0)

    def release(self) -> None:
        self.gone = True
        while self.waiting:
            self._drop()
