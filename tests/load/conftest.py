"""Servers that do one thing, in a thread of the test: right, late, wrong or not at all."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from muxcore.address import Address
from muxcore.load.generator import native_reason

Answer = Callable[[socket.socket, bytes, int], None]


@dataclass
class TinyServer:
    """Accepts in a thread and gives each message to ``answer(sock, data, number)``.

    Attributes:
        greeting: what it says first.
        accepted, received, bytes: connections, messages (as they arrived) and bytes up to now.
    """

    answer: Answer
    greeting: bytes = b""
    accepted: int = 0
    received: int = 0
    bytes: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self._waker, self._wake = socket.socketpair()
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._wake.close()
        self._thread.join()
        self._waker.close()
        self._listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._waker:
                        for other in list(selector.get_map().values()):
                            other.fileobj.close()  # type: ignore[union-attr]
                        return
                    if key.fileobj is self._listener:
                        client, _ = self._listener.accept()
                        self.accepted += 1
                        client.sendall(self.greeting)
                        selector.register(client, selectors.EVENT_READ)
                    else:
                        self._receive(key.fileobj, selector)  # type: ignore[arg-type]

    def _receive(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            data = sock.recv(1 << 20)
            if data:
                self.received += 1
                self.bytes += len(data)
                self.answer(sock, data, self.received)
        except OSError:
            data = b""
        if not data or sock.fileno() < 0:
            selector.unregister(sock)
            sock.close()


def echo(sock: socket.socket, data: bytes, number: int) -> None:
    sock.sendall(data)


def freeze_at(turn: int, seconds: float) -> Answer:
    """Echo, but stop the whole server once for a while: that is the fault under test."""

    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        if number == turn:
            time.sleep(seconds)
        sock.sendall(data)

    return answer


def flip_at(turn: int) -> Answer:
    """Echo, but change the last byte of one message."""

    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        last = data[-1] ^ 1 if number == turn else data[-1]
        sock.sendall(data[:-1] + bytes([last]))

    return answer


def http(response: bytes, *, closes: bool = False, requests: int = 0) -> Answer:
    """Answer requests of HTTP.

    Args:
        response: to each.
        closes: whether the connection ends after each response.
        requests: after how many on a connection it is ended without a word; 0: never.
    """
    seen: dict[socket.socket, int] = {}

    def answer(sock: socket.socket, data: bytes, number: int) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            seen[sock] = seen.get(sock, 0) + 1
            sock.sendall(response)
            if closes or seen[sock] == requests:
                seen.pop(sock)
                sock.close()
                return

    return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., TinyServer]]:
    """Return a function that starts a TinyServer; all of them are stopped afterwards."""
    started: list[TinyServer] = []

    def start(answer: Answer, greeting: bytes = b"") -> TinyServer:
        started.append(TinyServer(answer, greeting))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def answers() -> dict[str, Callable[..., Answer]]:
    """The ways a TinyServer may answer, by name."""
    return {"echo": lambda: echo, "freeze_at": freeze_at, "flip_at": flip_at, "http": http}


@pytest.fixture(params=["native", "pure"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each generator in turn: both must find the same."""
    if request.param == "native" and (reason := native_reason()):
        pytest.skip(reason)
    return str(request.param)
