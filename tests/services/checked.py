"""Upstreams that are checked, and a relay that checks them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import muxcore
from muxcore.testing import eventually

ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and {"timers", "shared_state", "connect"} <= info.capabilities
]


class Answers:
    """An upstream that greets everybody, and answers a request, as it is told at the time."""

    def __init__(self) -> None:
        self.greeting, self.answer = b"", b""
        self.asked = 0
        self._server = muxcore.Server(self._protocol, "127.0.0.1:0", engine="pure-select")

    def _protocol(self) -> Any:
        answers = self

        class Greeting:
            def connection_made(self, transport: Any) -> None:
                self._transport = transport
                answers.asked += 1
                transport.write(answers.greeting)

            def data_received(self, data: bytes) -> None:
                self._transport.write(answers.answer)

        return Greeting()

    @property
    def address(self) -> str:
        return self._server.addresses[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop()


class Speaks:
    """An upstream that reads and says what it is told to, line by line, and then nothing."""

    def __init__(self, *lines: tuple[bytes, bytes]) -> None:
        self.lines = lines
        self.heard: set[bytes] = set()
        self._server = muxcore.Server(self._protocol, "127.0.0.1:0", engine="pure-select")

    def _protocol(self) -> Any:
        speaks = self

        class Line:
            def connection_made(self, transport: Any) -> None:
                self._transport, self._left = transport, list(speaks.lines)
                self.data_received(b"")

            def data_received(self, data: bytes) -> None:
                if data:
                    speaks.heard.add(data)
                if self._left and self._left[0][0] == data:
                    self._transport.write(self._left.pop(0)[1])

        return Line()

    @property
    def address(self) -> str:
        return self._server.addresses[0]

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop()


def fast(**options: Any) -> muxcore.Check:
    return muxcore.Check(**{"every": 0.02, "timeout": 60.0, "fall": 2, "rise": 2} | options)


@contextlib.contextmanager
def checked(engine: str, pool: muxcore.Pool) -> Iterator[str]:
    """Serve a relay to the pool; yield its address."""
    with muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine=engine) as server:
        yield server.addresses[0]


def becomes(pool: muxcore.Pool, name: str, state: str) -> None:
    eventually(
        lambda: pool.stats()[name].state == state,
        lambda: f"{name} is {pool.stats()[name]}, not {state}",
    )
