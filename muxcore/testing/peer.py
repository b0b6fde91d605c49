"""A scripted peer: the other end of a connection, which does exactly what it is told.

As calls, each of which waits no longer than the deadline and says what it waited for::

    peer = Peer("127.0.0.1:9000")
    peer.send(b"hello")
    assert peer.read(5) == b"HELLO"
    peer.shutdown_write()
    peer.read_eof()

or as a script, in which the bytes are a pattern that no two places share::

    Peer.play("127.0.0.1:9000", "send 5000; read 5000; shutdown-write; read-eof; close")

Not for load: one peer is one blocking socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any, Self

from muxcore import address as addresses

DEADLINE = float(os.environ.get("MUXCORE_TESTING_DEADLINE", "10"))
"""Seconds that anything which must happen may take: long, since the machine may be busy."""

SMALL = 32_768
"""A receive buffer that is full soon, and still no smaller than one segment of loopback's."""

_LINGER_0 = struct.pack("ii", 1, 0)  # struct linger: on, for no time: close(2) sends a reset
_CHUNK = 65_536


def pattern(size: int, start: int = 0) -> bytes:
    """Return ``size`` bytes in which every aligned group of four says where it stands."""
    first, last = start // 4, (start + size + 3) // 4
    whole = array("I", range(first, last))  # struct.pack takes five times as long
    if sys.byteorder == "little":
        whole.byteswap()
    return whole.tobytes()[start % 4 :][:size]


def narrow() -> socket.socket:
    """Return a listener whose connections hold little in the kernel: queues are needed soon.

    An accepted connection inherits its listener's SO_SNDBUF, and is not auto-tuned then (tcp(7)).
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    listener.bind(("127.0.0.1", 0))
    return listener


class Peer:
    """A client that does what it is told.

    Args:
        where: the server's address, or a socket that is connected already.
        receive_buffer: bytes of SO_RCVBUF, set before connecting; small, it is full soon.
        deadline: seconds that each step may take.

    Attributes:
        name: this end's socket address, which is the server's peername.
    """

    def __init__(
        self,
        where: str | socket.socket,
        *,
        receive_buffer: int | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._deadline = deadline
        self._sent = 0  # bytes of the pattern
        self._received = 0
        if isinstance(where, socket.socket):
            self.sock = where
        else:
            family, target = next(iter(addresses.resolve(addresses.parse(where))))
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            if receive_buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(deadline)
            try:
                self.sock.connect(target)
            except BaseException:
                self.sock.close()
                raise
        self.sock.settimeout(deadline)
        self.name: Any = self.sock.getsockname()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- the steps

    def send(self, what: bytes | int) -> None:
        """Send bytes, or the next so many of the pattern."""
        if isinstance(what, int):
            data = pattern(what, self._sent)
            self._sent += what
        else:
            data = what
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise AssertionError(
                f"the server did not take {len(data)} bytes within {self._deadline:g} s"
            ) from None

    def send_until_full(self, most: int, quiet: float = 0.25) -> int:
        """Send until the server takes nothing for ``quiet`` seconds; return what it took."""
        piece, sent = bytes(_CHUNK), 0
        self.sock.settimeout(quiet)
        try:
            while sent < most:
                sent += self.sock.send(piece[: most - sent])
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            self.sock.settimeout(self._deadline)
        return sent

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        got = bytearray()
        while len(got) < size:
            piece = self._receive(min(size - len(got), _CHUNK), f"byte {len(got)} of {size}")
            assert piece, f"the server ended after {len(got)} bytes of {size}"
            got += piece
        self._received += size
        return bytes(got)

    def read_pattern(self, size: int) -> None:
        """Read the next ``size`` bytes and hold them against the pattern."""
        start = self._received
        assert self.read(size) == pattern(size, start), f"bytes {start}..{start + size} differ"

    def readable(self) -> bool:
        """Whether there is something to read now: bytes, or the end."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def read_all(self) -> bytes:
        """Read until EOF."""
        got = bytearray()
        while piece := self._receive(_CHUNK, f"EOF (after {len(got)} bytes)"):
            got += piece
        return bytes(got)

    def read_line(self) -> bytes:
        """Read to the end of a line."""
        got = bytearray()
        while not got.endswith(b"\n"):
            got += self.read(1)
        return bytes(got)

    def read_eof(self) -> None:
        """Expect EOF, and no byte before it."""
        piece = self._receive(_CHUNK, "EOF")
        assert not piece, f"{len(piece)} bytes came instead of EOF: {piece[:40]!r}"

    def read_end(self) -> None:
        """Expect the end in whatever form: EOF or a reset, after any bytes."""
        with contextlib.suppress(ConnectionError):
            self.read_all()

    def read_reset(self) -> None:
        """Expect a reset, after any bytes."""
        try:
            self.read_all()
        except ConnectionResetError:
            return
        raise AssertionError("the connection ended with EOF, not with a reset")

    def pause(self, seconds: float) -> None:
        """Do nothing for a while: never to wait for something, only to let the server be alone."""
        time.sleep(seconds)

    def shutdown_write(self) -> None:
        """Send EOF and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection by a reset."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    # -- scripts

    @classmethod
    def play(cls, where: str, script: str, **options: Any) -> Self:
        """Connect, and do the steps of a script: the methods by name, one argument, ``;`` between.

        ``never-read`` makes the receive buffer small and must come first. ``read 10`` holds what
        comes against the pattern, which is right where the server sends back what it got.

        Raises:
            ValueError: an unknown step.
        """
        steps = [step.split() for step in script.replace("\n", ";").split(";") if step.strip()]
        if steps and steps[0] == ["never-read"]:
            options.setdefault("receive_buffer", 4096)
            del steps[0]
        peer = cls(where, **options)
        try:
            for step in steps:
                peer._do(*step)
        except BaseException:
            peer.close()
            raise
        return peer

    def _do(self, name: str, *args: str) -> None:
        steps: dict[str, tuple[Callable[..., object], Callable[[str], Any]]] = {
            "send": (self.send, int),
            "read": (self.read_pattern, int),
            "pause": (self.pause, float),
            "read-eof": (self.read_eof, str),
            "read-end": (self.read_end, str),
            "shutdown-write": (self.shutdown_write, str),
            "reset": (self.reset, str),
            "close": (self.close, str),
        }
        if name not in steps:
            raise ValueError(f"no step is named {name!r}: take one of {', '.join(steps)}")
        call, kind = steps[name]
        call(*map(kind, args))

    def _receive(self, size: int, what: str) -> bytes:
        try:
            return self.sock.recv(size)
        except TimeoutError:
            raise AssertionError(
                f"no {what} came from the server within {self._deadline:g} s"
            ) from None
