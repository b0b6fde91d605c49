"""What this process listens on, as it is handed over to another one.

A descriptor crosses under a name: a number that makes it unique, the address as it was given, and
the path of a unix socket that is ours to remove. The address is "" where there was none: of a
socket that the program had bound, and of what was bound beside another one for a worker.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Iterator
from typing import Protocol

from muxcore.parts import opening

_BETWEEN = "\n"  # no address has one


class Listens(Protocol):
    """A server, as far as it listens."""

    def _listeners(self) -> Iterator[tuple[str, socket.socket]]:
        """Yield each address as it was given, or "", with its socket."""


_servers: weakref.WeakSet[Listens] = weakref.WeakSet()


def add(server: Listens) -> None:
    """Hand over from now on what a server listens on."""
    _servers.add(server)


def _all() -> Iterator[tuple[str, socket.socket]]:
    for server in list(_servers):
        for where, sock in server._listeners():
            if sock.fileno() >= 0:
                yield where, sock


def descriptors() -> dict[str, int]:
    """Return the descriptors of all sockets on which this process listens, by their names.

    One whose path is gone stays here: who takes over makes the path anew.
    """
    return {
        _BETWEEN.join((str(number), where, opening.path_of(sock))): sock.fileno()
        for number, (where, sock) in enumerate(_all())
        if not opening.is_gone(sock)
    }


def disown() -> None:
    """Leave the paths of unix sockets to another process, whose they are now."""
    for _, sock in _all():
        opening.disown(sock)


def taken(name: str, descriptor: int) -> tuple[str, socket.socket]:
    """Return (address, socket) of what another process has handed over."""
    _, where, path = name.split(_BETWEEN)
    return where, opening.taken(descriptor, path)
