"""The places of workers: the listening sockets of each, which stay when a worker goes.

An address has a socket for each place where the kernel can share a port among sockets
(SO_REUSEPORT, socket(7)): a client waits in the queue of one of them. One that cannot be shared so,
a unix socket or a given one without that option, is in every place: its one queue is everybody's.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from muxcore import address
from muxcore.limits import Limits
from muxcore.parts import opening
from muxcore.restarting.predecessor import predecessor
from muxcore.workers.replacing import Replacing


@dataclass(eq=False)
class Place:
    """What one worker at a time serves.

    Attributes:
        number: it counts from 1.
        sockets: by name, which is unique in the place: see ``served``.
        due: monotonic(), when it is to have a worker, if it has none.
        ready: whether its worker has said that it serves.
        deaths: of its workers.
    """

    number: int
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    due: float = 0.0
    ready: bool = False
    deaths: Replacing = field(default_factory=Replacing)

    def descriptors(self) -> dict[str, int]:
        return {name: sock.fileno() for name, sock in self.sockets.items()}


class Places:
    """All of them.

    Args:
        count: how many.
        exact: whether each address has one socket, and the workers see to the balance themselves.

    Attributes:
        exact: the same.
    """

    def __init__(self, count: int, *, exact: bool = False) -> None:
        self.exact = exact
        self.every = [Place(number + 1) for number in range(count)]
        # as they were listened on, to be closed once, with the numbers of their services
        self._given: list[tuple[socket.socket, int]] = []
        self._beside: list[socket.socket] = []
        self._left: dict[int, Place] = {}  # places that are not in use now, by their numbers
        self._limits = Limits()

    def listen(self, sock: socket.socket, limits: Limits, which: int) -> None:
        """Share a listening socket out, which is ours from now on.

        Args:
            sock: it.
            limits: of its backlog.
            which: the number of the service that it is for.

        Raises:
            OSError: another one cannot be bound beside it.
        """
        self._given.append((sock, which))
        self._limits = limits
        for place in self.every:
            self._listen_at(place, sock, which)
        while (other := predecessor.beside(sock)) is not None:  # it had more places
            self._serve_also(other, which)

    def _listen_at(self, place: Place, sock: socket.socket, which: int) -> None:
        ours = sock
        if place.number > 1 and not self.exact and _shares(sock):
            ours = predecessor.beside(sock) or opening.open_beside(sock, self._limits)
            self._beside.append(ours)
        place.sockets[f"{which} at {place.number}: {address.of_socket(sock)}"] = ours

    def _serve_also(self, sock: socket.socket, which: int) -> None:
        """Serve whoever waits in a socket for which there is no place: a sibling does it."""
        opening.listen_on(sock, self._limits)
        self._beside.append(sock)
        fewest = min(self.every, key=lambda place: len(place.sockets))
        for place in self.every if self.exact else (fewest,):
            name = f"{which} left {len(self._beside)}: {address.of_socket(sock)}"
            place.sockets[name] = sock

    def beside(self) -> list[socket.socket]:
        """Return what was not given, but bound beside that."""
        return self._beside

    def one_less(self) -> tuple[Place, Place, dict[str, int]]:
        """Leave the last place; what only it has goes to the place with the fewest sockets.

        Returns:
            The one that is left, its heir, and what that inherits.
        """
        left = self.every.pop()
        self._left[left.number] = left
        heir = min(self.every, key=lambda place: len(place.sockets))
        theirs = {
            name: sock for name, sock in left.sockets.items() if sock not in heir.sockets.values()
        }
        heir.sockets.update(theirs)
        return left, heir, {name: sock.fileno() for name, sock in theirs.items()}

    def one_more(self) -> None:
        """Use one place more: the one that was left last, with its sockets, or a new one.

        Raises:
            OSError: no socket can be bound for it.
        """
        number = len(self.every) + 1
        place = self._left.pop(number, None)
        if place is None:
            place = Place(number)
            for sock, which in self._given:
                self._listen_at(place, sock, which)
        for each in self.every:
            for name in place.sockets:
                each.sockets.pop(name, None)
        place.due, place.deaths = 0.0, Replacing()
        self.every.append(place)

    def close(self) -> None:
        """Close every socket of ours: a worker that serves one has its own descriptor."""
        for sock, _ in self._given:
            opening.close_listener(sock)
        for sock in self._beside:
            sock.close()
        self._given.clear()
        self._beside.clear()
        for place in self.every:
            place.sockets.clear()

    def abandon(self) -> None:
        """Close the copies of a fork of the process that listens."""
        for sock in (*(sock for sock, _ in self._given), *self._beside):
            sock.close()
        self._given.clear()
        self._beside.clear()


def served(descriptors: Mapping[str, int]) -> dict[socket.socket, int]:
    """Return the sockets of a place, in its worker, each with the number of its service.

    Args:
        descriptors: by name; the name begins with that number.
    """
    numbers = {name: int(name.partition(" ")[0]) for name in descriptors}
    return {
        socket.socket(fileno=descriptors[name]): numbers[name]
        for name in sorted(descriptors, key=numbers.__getitem__)
    }


def _shares(sock: socket.socket) -> bool:
    """Whether other sockets may be bound to its address."""
    if sock.family == socket.AF_UNIX:
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
