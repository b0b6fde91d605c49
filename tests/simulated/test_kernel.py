"""The simulated kernel says what the real one says, call by call."""

from __future__ import annotations

import errno
import random
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from muxcore.parts.transport import RESET

from .ends import End
from .kernel import Kernel

_SEEDS = 60
_CALLS = 25
_ASKED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP if hasattr(select, "epoll") else 0
_TOLD = 1 | 4 | 8 | 16 | 0x2000  # IN, OUT, ERR, HUP, RDHUP

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")


def _said(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


class _Real:
    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname())
            two, _ = listener.accept()
        self.socks: list[Any] = [one, two]
        self.epolls = []
        for sock in self.socks:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.epolls.append(select.epoll())
            self.epolls[-1].register(sock, _ASKED)

    def close(self) -> None:
        for each in (*self.epolls, *self.socks):
            each.close()

    def call(self, which: int, name: str, size: int) -> object:
        sock = self.socks[which]
        if name == "send":
            return _said(lambda: sock.send(b"x" * size))
        if name == "recv":
            return _said(lambda: len(sock.recv(size)))
        if name == "shutdown":
            return _said(lambda: sock.shutdown(socket.SHUT_WR))
        if name == "error":
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if name == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return sock.close()

    def masks(self, which: int) -> int:
        told = self.epolls[which].poll(0)
        return told[0][1] & _TOLD if told else 0


class _Simulated:
    def __init__(self) -> None:
        self.kernel = Kernel(0, 0, 1 << 20, 1 << 20)
        self.ends: tuple[End, End] = self.kernel.pair()
        for end in self.ends:
            end.refs = 1

    def call(self, which: int, name: str, size: int) -> object:
        end = self.ends[which]
        said: object = None
        if name == "send":
            said = _said(lambda: end.send(b"x" * size))
        elif name == "recv":
            said = _said(lambda: len(end.recv(size)))
        elif name == "shutdown":
            said = _said(end.shutdown)
        elif name == "error":
            said = end.error_option()
        else:
            end.resets = name == "reset"
            self.kernel.put(end)
        self.kernel.move()
        self.kernel.move()  # the answer to what came to a closed end
        return said

    def masks(self, which: int) -> int:
        return self.ends[which].mask() & (_ASKED | _TOLD)


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_a_pair_of_ends_behaves_as_two_sockets_do(seed: int) -> None:
    chance = random.Random(seed)
    real, simulated = _Real(), _Simulated()
    closed: set[int] = set()
    done = []
    try:
        for _ in range(_CALLS):
            which = chance.randrange(2)
            names = ["send", "recv", "send", "recv", "error", "shutdown", "close", "reset"]
            name = chance.choices(names, (6, 6, 6, 6, 1, 2, 1, 1))[0]
            if which in closed or (name in ("close", "reset") and closed):
                continue
            size = chance.randrange(1, 300)
            done.append((which, name, size))
            said = real.call(which, name, size), simulated.call(which, name, size)
            assert said[0] == said[1], done
            if name in ("close", "reset"):
                closed.add(which)
            for each in {0, 1} - closed:
                assert real.masks(each) == simulated.masks(each), (each, done)
    finally:
        real.close()
