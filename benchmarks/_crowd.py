"""Clients that have nothing of muxcore: plain sockets in one thread, each byte of which is counted.

Some come, send a message, get it back and hear the end; others stay for some seconds and talk.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

_MESSAGE = 100  # bytes
_TALKS_EVERY = 0.1  # s
_PATIENCE = 15.0  # s; a SYN that a full queue drops is sent again after 1, 3 and 7 s
_LIVES = (2.0, 10.0)  # s, of a long one; then another comes
_LATE = 0.1  # s of short ones that are made up for
BADLY = ("refused", "reset", "cut short", "wrong", "timed out")


@dataclass
class Counts:
    """What clients have seen."""

    ended: Counter[str] = field(default_factory=Counter)  # how, of all connections
    long_ended: Counter[str] = field(default_factory=Counter)  # of the long ones among them
    sent: int = 0
    received: int = 0
    slowest: float = 0.0  # s, of a short one


class Client:
    """One connection: short, or one that talks until some time."""

    def __init__(self, load: Load, where: tuple[str, int], until: float | None) -> None:
        self._load = load
        self.began = self.moved_at = time.monotonic()
        self.until = until
        self._waits = bytearray()  # for these bytes
        self._connected = self._said_all = False
        self.next_at = 0.0
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = self.sock.connect_ex(where)
        load.watch(self, select.EPOLLIN | select.EPOLLOUT)
        if found not in (0, errno.EINPROGRESS):
            self.end(_named(found))

    def on_event(self, events: int) -> None:
        try:
            if not self._connected:
                if not events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
                    return
                problem = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if problem:
                    self.end(_named(problem))
                    return
                self._connected = True
                self._load.change(self, select.EPOLLIN)
                self.talk()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._hear()
        except BlockingIOError:
            pass
        except OSError as exc:
            self.end(_named(exc.errno or 0))

    def talk(self) -> None:
        """Send a message; the last one of a long one is the end."""
        now = time.monotonic()
        if self.until is not None and now >= self.until:
            if self._waits:  # nginx ends both ways at the end of one
                self.next_at = now + _TALKS_EVERY
                self._load.talks_later(self)
            else:
                self._say_end()
            return
        message = self._load.message()
        sent = self.sock.send(message)  # a socket's buffer has room for one
        assert sent == len(message)
        self._waits += message
        self._load.counts.sent += sent
        self.moved_at = now
        self.next_at = now + _TALKS_EVERY
        if self.until is not None:
            self._load.talks_later(self)

    def _say_end(self) -> None:
        self._said_all = True
        self.sock.shutdown(socket.SHUT_WR)

    def _hear(self) -> None:
        data = self.sock.recv(65_536)
        self.moved_at = time.monotonic()
        self._load.counts.received += len(data)
        if not data:
            self.end("well" if self._said_all and not self._waits else "cut short")
        elif self._waits[: len(data)] != data:
            self.end("wrong")
        else:
            del self._waits[: len(data)]
            if self.until is None and not self._waits:  # not before: nginx ends both ways at once
                self._say_end()

    def end(self, how: str) -> None:
        self._load.forget(self, how)
        self.sock.close()

    @property
    def talks(self) -> bool:
        return self.sock.fileno() >= 0 and self._connected and not self._said_all


def _named(number: int) -> str:
    if number == errno.ECONNREFUSED:
        return "refused"
    return "reset" if number in (errno.ECONNRESET, errno.EPIPE) else os.strerror(number)


class Load:
    """All clients, in one thread.

    Args:
        where: the server.
        rate: short ones a second.
        long: long ones at a time.
    """

    def __init__(self, where: tuple[str, int], rate: float, long: int) -> None:
        self.counts = Counts()
        self._where = where
        self._rate = rate
        self._long = long
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._later: deque[Client] = deque()  # in the order in which they talk again
        self._longs = 0
        self._due = 0.0  # s since the beginning, when the next short one is to come
        self._number = 0
        self._random = random.Random(1)  # the same lives in each run

    def message(self) -> bytes:
        self._number += 1
        return f"{self._number:0{_MESSAGE}d}".encode()

    def watch(self, client: Client, events: int) -> None:
        self._clients[client.sock.fileno()] = client
        self._poll.register(client.sock.fileno(), events)

    def change(self, client: Client, events: int) -> None:
        self._poll.modify(client.sock.fileno(), events)

    def forget(self, client: Client, how: str) -> None:
        del self._clients[client.sock.fileno()]
        self._poll.unregister(client.sock.fileno())
        self.counts.ended[how] += 1
        if client.until is not None:
            self.counts.long_ended[how] += 1
            self._longs -= 1
        else:
            self.counts.slowest = max(self.counts.slowest, time.monotonic() - client.began)

    def talks_later(self, client: Client) -> None:
        self._later.append(client)

    def run(self, over: threading.Event) -> float:
        """Run until it is over and everybody has ended; return the seconds in which some came."""
        begun = time.monotonic()
        looked = begun
        lasted = 0.0
        while not lasted or self._clients:
            now = time.monotonic()
            if not lasted and over.is_set():
                lasted = now - begun
                for client in list(self._clients.values()):
                    if client.until is not None:
                        client.until = now  # it has its say, and ends
            if not lasted:
                self._begin(now - begun)
            for fd, events in self._poll.poll(0.002):
                client = self._clients.get(fd)
                if client is not None:
                    client.on_event(events)
            self._talk()
            if now - looked > 1:
                looked = now
                self._end_those_that_wait(now)
        self._poll.close()
        return lasted

    def _begin(self, since: float) -> None:
        while self._longs < self._long:
            self._longs += 1
            lives = self._random.uniform(*_LIVES)
            Client(self, self._where, time.monotonic() + lives)
        # a clock that jumps, or a core that was not ours, makes no burst: a listen queue has an end
        self._due = max(self._due, since - _LATE)
        while self._due < since:
            self._due += 1 / self._rate
            Client(self, self._where, None)

    def _talk(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0].next_at <= now:
            client = self._later.popleft()
            if client.talks:
                try:
                    client.talk()
                except OSError as exc:
                    client.end(_named(exc.errno or 0))

    def _end_those_that_wait(self, now: float) -> None:
        for client in list(self._clients.values()):
            if now - client.moved_at > _PATIENCE:
                client.end("timed out")
