"""A line when a client comes and goes, and its messages: a protocol around a protocol."""

from __future__ import annotations

import itertools
import time
from typing import Any

from muxcore import address
from muxcore.parts.dispatch import describe, make_protocol
from muxcore.protocol import Service

_SHOWN = 60  # bytes of a message that fit a line

_numbers = itertools.count(1)


class Watched:
    """A service that prints what happens to the connections of another.

    Args:
        service: the other one.
        messages: whether what they say is printed, too.
    """

    def __init__(self, service: Service, *, messages: bool) -> None:
        self._service = service
        self._messages = messages
        for name in ("verb", "requires", "limits"):
            if hasattr(service, name):
                setattr(self, name, getattr(service, name))

    def __call__(self) -> _Watched:
        return _Watched(make_protocol(self._service), self._messages)

    def __repr__(self) -> str:
        return describe(self._service)


class _Watched:
    """Everything it does not print goes straight to the protocol inside."""

    def __init__(self, inner: Any, messages: bool) -> None:
        self._inner = inner
        self._number = next(_numbers)
        self._since = time.monotonic()
        self._peer = ""
        self._transport: Any = None
        if messages and hasattr(inner, "data_received"):
            self.data_received = self._data_received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peername = transport.get_extra_info("peername")
        sock = transport.get_extra_info("socket")
        family = sock.family if sock is not None else 0
        if isinstance(peername, tuple):
            self._peer = address.from_sockaddr(family, peername)
        else:
            self._peer = f"unix client {self._number}"  # a unix client has no name
        print(f"+ {self._peer} connected", flush=True)
        if hasattr(self._inner, "connection_made"):
            self._inner.connection_made(transport)

    def _data_received(self, data: bytes) -> None:
        shown = repr(data[:_SHOWN])[1:] + ("…" if len(data) > _SHOWN else "")
        print(f"  {self._peer} sent {len(data)} bytes: {shown}", flush=True)
        self._inner.data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        received, sent = self._transport.get_extra_info("bytes")
        seconds = time.monotonic() - self._since
        why = f", {exc}" if exc is not None else ""
        print(
            f"- {self._peer} gone after {seconds:.3f} s: {received} bytes in, {sent} out{why}",
            flush=True,
        )
        if hasattr(self._inner, "connection_lost"):
            self._inner.connection_lost(exc)
