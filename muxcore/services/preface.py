"""The protocol of a connection until its PROXY header is there; then the service has it.

It is imported when the first such connection comes: most programs read no header.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from muxcore.errors import ParseError
from muxcore.parsers.proxy import ProxyHeader, header_needs, proxy_header
from muxcore.protocol import Handle
from muxcore.services.wrapping import enter


class Behind(Protocol):
    """What is asked of the ``BehindProxy``."""

    service: Any
    timeout: float
    max_header: int
    counts: Counter[str]

    def trusts(self, peername: Any) -> bool: ...

    def refuse(self, transport: Any, what: str, why: object) -> None: ...


class Preface:
    """The protocol of a connection until its header is there."""

    __slots__ = ("_behind", "_got", "_patience", "_room", "_transport")

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._got = b""
        self._room = bytearray(header_needs(b""))
        self._patience: Handle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        behind = self._behind
        if not behind.trusts(transport.get_extra_info("peername")):
            behind.refuse(transport, "untrusted", "it is not trusted to send a PROXY header")
            return
        self._patience = transport.server.call_later(behind.timeout, self._late)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        behind = self._behind
        self._got += self._room[:nbytes]
        try:
            header = proxy_header(self._got, behind.max_header)
        except ParseError as exc:
            self._wait_no_more()
            behind.refuse(self._transport, "malformed", exc)
            return
        if header is None:
            self._room = bytearray(header_needs(self._got) - len(self._got))
        else:
            self._goes_on(header)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._patience is not None:  # by itself: it may only have asked whether the port is open
            self._behind.counts["ended"] += 1
        self._wait_no_more()

    def _late(self) -> None:
        behind = self._behind
        self._patience = None
        why = f"no PROXY header came within {behind.timeout:g} s"
        behind.refuse(self._transport, "late", why)

    def _wait_no_more(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()

    def _goes_on(self, header: ProxyHeader) -> None:
        """Let the service have the connection, as if it had been accepted just now."""
        self._wait_no_more()
        behind, transport = self._behind, self._transport
        behind.counts["local" if header.command == "LOCAL" else "clients"] += 1
        transport.is_for(header)
        enter(transport, behind.service)
