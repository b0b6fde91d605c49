"""What a client may do from its connect to its end; each byte that comes back is compared.

Every life has a stream of bytes of its own, so that a byte of another connection is a wrong byte.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

_BLOCK = random.Random(1).randbytes(1 << 20)
_STEP = 7919  # bytes between the streams of two lives: a prime, so that they meet late
_PATIENCE = 60.0  # s without a byte: what is this long silent is stuck, on the busiest machine, too
_LINGER_0 = struct.pack("ii", 1, 0)  # struct linger: on, for no time: close(2) sends a reset
_NARROW = 4096  # bytes of a receive buffer that is soon full


@dataclass(frozen=True, slots=True)
class End:
    """How a life went.

    Attributes:
        kind: its name.
        returned: bytes that came back, each compared.
        wrong: what must not be; "" where all was right.
        cut: the other side ended it early: right only where an upstream died meanwhile.
    """

    kind: str
    returned: int = 0
    wrong: str = ""
    cut: str = ""


class _Wrong(Exception):
    pass


class _Cut(Exception):
    pass


class Life:
    """One connection to an echo.

    Args:
        address: host and port.
        number: of the life: it chooses the stream.
        dice: chooses everything else.
    """

    def __init__(self, address: tuple[str, int], number: int, dice: random.Random) -> None:
        self._dice = dice
        self._at = number * _STEP
        self._sent = self._returned = 0
        self._sock = socket.socket()
        self._address = address

    def live(self) -> End:
        """Live one of the lives, to its end."""
        kind = self._dice.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        wrong = cut = ""
        try:
            self._sock.settimeout(_PATIENCE)
            if self._dice.random() < 0.3:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
            # Of one address the ports are used up by connections that have just ended.
            self._sock.bind((f"127.0.0.{self._dice.randint(1, 250)}", 0))
            self._sock.connect(self._address)
            KINDS[kind][1](self)
        except _Wrong as exc:
            wrong = str(exc)
        except _Cut as exc:
            cut = str(exc)
        except TimeoutError:
            wrong = f"no byte moved for {_PATIENCE:g} s"
        except ConnectionError as exc:
            cut = str(exc)
        except OSError as exc:
            wrong = str(exc)
        finally:
            self._sock.close()
        return End(kind, self._returned, wrong, cut)

    # -- the lives

    def talks(self) -> None:
        for _ in range(self._dice.randint(1, 20)):
            self._exchange(self._size(5_000))
        self._ends()

    def streams(self) -> None:
        self._exchange(self._size(1_000_000))
        self._ends()

    def reads_slowly(self) -> None:
        self._exchange(self._size(100_000), pause=0.005)
        self._ends()

    def resets(self) -> None:
        self._exchange(self._size(200_000), until=self._dice.random())
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)

    def never_reads(self) -> None:
        self._sock.setblocking(False)
        try:
            for _ in range(20):
                self._sock.send(self._bytes(self._sent, 65_536))
        except BlockingIOError:
            pass
        time.sleep(self._dice.random() * 0.2)  # it is there for a while
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)

    def leaves_at_once(self) -> None:
        if self._dice.random() < 0.5:
            self._sock.sendall(b"hello")  # and what comes back is unread: the kernel sends a reset

    # -- what they are made of

    def _size(self, most: int) -> int:
        """Return a size, small ones as often as large ones."""
        return int(most ** self._dice.random())

    def _bytes(self, offset: int, size: int) -> bytes:
        at = (self._at + offset) % len(_BLOCK)
        piece = _BLOCK[at : at + size]
        if len(piece) < size:  # past the block's end it begins anew
            piece += self._bytes(offset + len(piece), size - len(piece))
        return piece

    def _exchange(self, size: int, *, until: float = 1.0, pause: float = 0.0) -> None:
        """Send so many bytes, and take back that share of them, at the same time."""
        to_send = self._sent + size
        to_return = self._returned + int((to_send - self._returned) * until)
        most = self._dice.choice((1_000, 65_536, 300_000))
        while self._returned < to_return:
            writing = [self._sock] if self._sent < to_send else []
            readable, writable, _ = select.select([self._sock], writing, [], _PATIENCE)
            if not readable and not writable:
                raise TimeoutError
            if writable:
                piece = self._bytes(self._sent, min(to_send - self._sent, most))
                self._sent += self._sock.send(piece, socket.MSG_DONTWAIT)
            if readable:
                self._take(self._sock.recv(most))
                if pause:
                    time.sleep(pause * self._dice.random())

    def _ends(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
        while self._returned < self._sent:
            self._take(self._sock.recv(65_536))
        if self._sock.recv(1):
            raise _Wrong(f"more came back than the {self._sent} bytes that were sent")

    def _take(self, data: bytes) -> None:
        if not data:
            raise _Cut(f"end of file after {self._returned} of {self._sent} bytes")
        if data != self._bytes(self._returned, len(data)):
            raise _Wrong(f"other bytes than were sent, from byte {self._returned} on")
        self._returned += len(data)
        if self._returned > self._sent:
            raise _Wrong(f"{self._returned} bytes came back of {self._sent} that were sent")


# name: (how often, what)
KINDS: dict[str, tuple[float, Callable[[Life], None]]] = {
    "talks": (8, Life.talks),
    "streams": (3, Life.streams),
    "reads slowly": (1, Life.reads_slowly),
    "resets": (3, Life.resets),
    "never reads": (1, Life.never_reads),
    "leaves at once": (3, Life.leaves_at_once),
}
