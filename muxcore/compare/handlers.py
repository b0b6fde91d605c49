"""The services the comparison serves: the same work once as a verb and once as callbacks."""

from __future__ import annotations

import time
from typing import Any, ClassVar


class CallbackEcho:
    """What ``muxcore.Echo`` does, decided in Python for every message."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class FanOut(CallbackEcho):
    """A chat room at its busiest: one word, and everybody is told twenty times in one callback."""

    GREETING = b"welcome"  # who has it is a member
    MESSAGES = 20
    SIZE = 64  # bytes
    _members: ClassVar[list[Any]] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._members.append(transport)
        transport.write(self.GREETING)

    def data_received(self, data: bytes) -> None:
        for _ in range(self.MESSAGES):
            for member in self._members:
                member.write(bytes(self.SIZE))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._members.remove(self._transport)


class SlowEcho(CallbackEcho):
    """An echo that thinks: each message takes some milliseconds of Python."""

    SECONDS = 0.005

    def data_received(self, data: bytes) -> None:
        until = time.perf_counter() + self.SECONDS
        while time.perf_counter() < until:
            pass
        super().data_received(data)
