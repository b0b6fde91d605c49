"""What a process and its starter say to each other: orders, and answers.

A message is a word, details as JSON, and listening sockets by their names, whose descriptors the
kernel hands over (SCM_RIGHTS, unix(7)). The end of one process is the other's end of file, however
it came. A message may wait in the kernel while the process that is to read it executes another
program: what is in a socket stays in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fcntl import F_GETFL, F_SETFL, F_SETOWN, fcntl
from types import FrameType
from typing import Any, Self

_MOST = 65_536  # bytes of a message: some hundred names of sockets
_SOCKETS = 253  # descriptors in one message: SCM_MAX_FD, unix(7)


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        word: what is said or ordered.
        details: more about it.
        descriptors: what was handed over, by name; they are the receiver's.
    """

    word: str
    details: dict[str, Any] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)


class Channel:
    """One end of it; no call but :meth:`wait` waits.

    Args:
        sock: one of a pair of SOCK_SEQPACKET.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._so_far: dict[str, int] = {}  # descriptors of a message of which more is to come

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Return an end, and the socket of the other one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, word: str, descriptors: Mapping[str, int] | None = None, **details: Any) -> bool:
        """Say something.

        Args:
            word: what.
            descriptors: what goes along, by name; ours stay open.
            details: what JSON has a form for.

        Returns:
            Whether it is on its way: the other end may be closed, or read nothing any more.
        """
        given = list((descriptors or {}).items())
        for at in range(0, max(len(given), 1), _SOCKETS):
            some = dict(given[at : at + _SOCKETS])
            more = at + _SOCKETS < len(given)
            if not self.write(
                json.dumps([word, details, list(some), more]).encode(), *some.values()
            ):
                return False
        return True

    def write(self, data: bytes, *descriptors: int) -> bool:
        """Send bytes as they are; returns as :meth:`send` does."""
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            self._sock.sendmsg([data], _ancillary(descriptors), flags)
        except OSError:
            return False
        return True

    def receive(self, *, wait: bool = False) -> Message | None:
        """Return the next message.

        Args:
            wait: for one, if none is there.

        Returns:
            None: the other end is closed.

        Raises:
            BlockingIOError: none is there.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        space = socket.CMSG_SPACE(_SOCKETS * array("i").itemsize)
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(_MOST, space, flags)
            except ConnectionError:  # what we said was never read
                return None
            if not data:
                return None
            descriptors = array("i")
            for _, _, given in ancillary:
                descriptors.frombytes(given)
            word, details, names, more = json.loads(data)
            self._so_far.update(zip(names, descriptors, strict=True))
            if not more:
                all_of_it, self._so_far = self._so_far, {}
                return Message(word, details, all_of_it)

    def close(self) -> None:
        self._sock.close()


def _ancillary(descriptors: tuple[int, ...]) -> list[tuple[int, int, array[int]]]:
    # not socket.send_fds, which drops its flags
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]


class Orders:
    """What comes through a channel, heard by SIGIO: beside any loop, and without a thread.

    The kernel raises the signal when a message comes, and when the other end is closed. A signal
    wakes every engine, since SIGTERM has to.

    Args:
        channel: where it comes from.
        obey: called in the main thread with each message, and with None once the other end is
            closed.
    """

    def __init__(self, channel: Channel, obey: Callable[[Message | None], object]) -> None:
        self._channel = channel
        self._obey = obey
        self._over = False

    def begin(self) -> None:
        """Hear from now on, and what has come before; in the main thread."""
        _heard.append(self)
        signal.signal(signal.SIGIO, _signalled)
        fd = self._channel.fileno()
        fcntl(fd, F_SETOWN, os.getpid())
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | os.O_ASYNC)
        self._hear()

    def end(self) -> None:
        """Hear nothing any more, and close the channel: no signal comes of it from now on."""
        self._over = True
        if self in _heard:
            _heard.remove(self)
        self._channel.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._over:
                message = self._channel.receive()
                self._over = message is None
                self._obey(message)


_heard: list[Orders] = []  # of this process: the signal does not say whose channel it is


def _signalled(number: int, frame: FrameType | None) -> None:
    for orders in list(_heard):
        orders._hear()
