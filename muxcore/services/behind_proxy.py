"""A service behind a load balancer, which tells by a PROXY header whom it speaks for.

The header is read before the service's protocol begins, and not a byte behind it: a
``BufferedProtocol`` says how much the engine may receive. So the protocol, or its verb, finds the
connection as if the client had connected to it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from muxcore._seldom import Seldom
from muxcore.limits import seconds
from muxcore.parts import dispatch
from muxcore.services.networks import Networks
from muxcore.services.wrapping import Wrapper

logger = logging.getLogger("muxcore")

_MOST = 16 + 65_535  # bytes: the length behind the first 16 is a number of two


class BehindProxy(Wrapper):
    """A service whose connections begin with a PROXY header, of version 1 or 2.

    ::

        relay = muxcore.Relay("db1:5432")
        muxcore.serve(muxcore.BehindProxy(relay, trusted=["10.0.0.0/8"]), "0.0.0.0:5432")

    Every connection has to begin with one, and whoever may say whom a connection is for is named:
    others are refused. (HAProxy, doc/proxy-protocol.txt, sections 2 and 5: a receiver must not
    guess.) From then on ``get_extra_info`` has the client for ``peername``, and for ``sockname``
    where it went; ``proxy_peername`` and ``proxy_sockname`` are the socket's own, ``proxy`` is the
    ``muxcore.parsers.ProxyHeader``. Of a proxy's own connections ("LOCAL"), and of clients that it
    does not know, the socket's addresses stay.

    Args:
        service: what is behind it: any service; with ``muxcore.aio.serve`` a handler, too.
        trusted: networks, such as "10.0.0.0/8" or "::1", of those who may send a header; "unix"
            means whoever may connect to a unix socket.
        timeout: seconds in which the header has to come, from the accept on.
        max_header: bytes of a header of version 2; one of version 1 has at most 107.

    Attributes:
        service: what is behind it.
        counts: connections by what became of the header, in this process: "clients" and "local"
            went on; "untrusted", "malformed", "late" and "ended" (without one) did not.

    Raises:
        TypeError: ``trusted`` is a text alone, or the time-out no number.
        ValueError: nobody is trusted, a network is none, or a number cannot work.
    """

    def __init__(
        self,
        service: Any,
        *,
        trusted: Iterable[str],
        timeout: float = 3.0,
        max_header: int = 16_384,
    ) -> None:
        super().__init__(service)
        self.trusted = Networks("BehindProxy", "trusted", trusted)
        if not self.trusted:
            raise ValueError(
                "BehindProxy(trusted=[]): nobody could send a header; name the proxies' networks, "
                "such as '10.0.0.0/8', or 'unix'"
            )
        if not seconds("BehindProxy(timeout=…): timeout", timeout):
            raise ValueError("BehindProxy(timeout=0): timeout must be above 0, not 0")
        if isinstance(max_header, bool) or not isinstance(max_header, int):
            raise TypeError(
                f"BehindProxy(max_header={max_header!r}): max_header is no whole number"
            )
        if not 16 <= max_header <= _MOST:
            raise ValueError(
                f"BehindProxy(max_header={max_header!r}): max_header must be from 16 to {_MOST:,}"
            )
        self.timeout = timeout
        self.max_header = max_header
        self.counts: Counter[str] = Counter()
        self._log = Seldom(logger.warning)

    def __call__(self) -> Any:
        """Return the protocol that reads the header."""
        from muxcore.services.preface import Preface

        return Preface(self)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"timers"})

    # -- for its connections

    def trusts(self, peername: Any) -> bool:
        """Return whether a peer may send a header.

        Args:
            peername: its socket address.
        """
        return self.trusted.have(peername)

    def refuse(self, transport: Any, what: str, why: object) -> None:
        """Close a connection, and tell of it at a bounded rate.

        Args:
            transport: the connection.
            what: the count's name.
            why: for the log; none of it is a stranger's bytes as they came.
        """
        self.counts[what] += 1
        by = f" by {self._name}" if self._name else ""
        self._log.tell("connection from %s is closed%s: %s", dispatch.peer_of(transport), by, why)
        transport.abort()
