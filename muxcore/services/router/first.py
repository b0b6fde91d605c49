"""What is known of a client when somebody is to decide where it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from muxcore.pool import Pool

if TYPE_CHECKING:  # who routes nobody needs no parser
    from muxcore.parsers import ClientHello, ProxyHeader


@dataclass(frozen=True, slots=True)
class First:
    """A client, and the first of its bytes.

    Attributes:
        data: what has come so far: the whole first message of TLS (the ClientHello), HTTP/1 (the
            head) and PostgreSQL (the first packet), if that came in time and has no more than
            ``max_bytes``; of others what came first. b"": it said nothing.
        peername: its socket address, or as a proxy told it.
        sockname: where it came to.
        protocol: "tls", "ssh", "http", "http2", "proxy", "postgres" or "unknown", as
            ``muxcore.parsers.protocol_of`` guesses; None: too little came for that.
        hello: what a TLS client asks for; None: it is none, or its hello is malformed.
        proxy: the PROXY header that a ``muxcore.BehindProxy`` has read, or None.
    """

    data: bytes
    peername: Any
    sockname: Any
    protocol: str | None
    hello: ClientHello | None
    proxy: ProxyHeader | None


Decided: TypeAlias = Pool | str | None
Decide: TypeAlias = Callable[[First], Decided | Awaitable[Decided]]
