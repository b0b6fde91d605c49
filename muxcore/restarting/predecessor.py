"""Who has started this process to take over from it, and what that listens on; mostly nobody.

The sockets were in the channel before this process was. Each is asked for by the address under
which it was opened, then by the one to which it is bound. What nobody has asked for when this
process is ready is closed: its address is given up.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from muxcore import address as addresses
from muxcore.abc import logger
from muxcore.parts import opening
from muxcore.parts.channel import Channel
from muxcore.restarting import handed, program

INIT = 1
"""The pid of the first process of a namespace: all others are killed once it ends."""


class Predecessor:
    """It.

    Args:
        sock: of the channel to it; None: there is none.

    Attributes:
        pid: its number, once something was asked for; 0: there is none.
    """

    def __init__(self, sock: socket.socket | None) -> None:
        self._channel = None if sock is None else Channel(sock)
        self._left: list[tuple[str, socket.socket]] | None = None  # what nobody has asked for yet
        self._taken: list[socket.socket] = []
        self.pid = 0

    def named(self, where: str) -> list[socket.socket]:
        """Return what was opened for an address as it is written, in order; it is the caller's."""
        return self._take(lambda name, sock: name == where)

    def at(self, family: int, sockaddr: Any) -> socket.socket | None:
        """Return one that is bound to a socket address, or None; it is the caller's."""
        where = addresses.from_sockaddr(family, sockaddr)
        return next(
            iter(self._take(lambda name, sock: addresses.of_socket(sock) == where, 1)), None
        )

    def beside(self, sock: socket.socket) -> socket.socket | None:
        """Return another one that is bound to the same address, or None; it is the caller's."""
        return self.at(sock.family, sock.getsockname())

    def _take(
        self, wanted: Callable[[str, socket.socket], bool], most: int | None = None
    ) -> list[socket.socket]:
        left = self._read()
        found = [each for each in left if wanted(*each)][:most]
        for each in found:
            left.remove(each)
        self._taken += [sock for _, sock in found]
        return [sock for _, sock in found]

    def _read(self) -> list[tuple[str, socket.socket]]:
        if self._left is None:
            self._left = []
            message = None if self._channel is None else self._channel.receive(wait=True)
            if message is not None:
                self.pid = message.details["pid"]
                self._left += [handed.taken(*each) for each in message.descriptors.items()]
        return self._left

    def failed(self, exc: BaseException) -> None:
        """Say why this process cannot serve."""
        if self._channel is not None:
            self._channel.send("failed", text=str(getattr(exc, "strerror", None) or exc))

    def ready(self) -> Channel | None:
        """Say that this process serves: what it has taken is its own from now on.

        Returns:
            The channel, where one of the two is init and more will be said; it is the caller's.
        """
        channel, self._channel = self._channel, None
        if channel is None:
            return None
        for sock in self._taken:
            opening.inherit(sock)
        for _, sock in self._read():
            logger.info("nobody listens on %s any more", addresses.of_socket(sock))
            opening.inherit(sock)
            opening.close_listener(sock)
        self._taken, self._left = [], []
        channel.send("ready")
        if INIT in (self.pid, os.getpid()):
            return channel
        channel.close()
        return None


predecessor = Predecessor(program.inherited)
