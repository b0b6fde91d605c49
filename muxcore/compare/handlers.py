"""The services the comparison serves: the same work once as a verb and once as callbacks."""

from __future__ import annotations

from typing import Any


class CallbackEcho:
    """What ``muxcore.Echo`` does, decided in Python for every message."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)
