"""What those need of an engine who connect with it, and which failures are nobody's but our own."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Protocol

from muxcore.address import Address
from muxcore.protocol import Handle, Service

OUR_FAULT = frozenset(
    {
        errno.EAGAIN,  # Limits.connections
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,  # no local port is left for this destination
    }
)


class Connects(Protocol):
    """What opens connections: an engine."""

    def connect(
        self, address: Address, service: Service, timeout: float | None = None, /
    ) -> Handle: ...

    def connect_side(
        self, address: Address, service: Service, timeout: float | None = None, /
    ) -> Handle: ...

    def call_later(self, delay: float, call: Callable[..., object], /, *args: Any) -> Handle: ...
