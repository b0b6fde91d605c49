"""A service behind a load balancer, which tells by a PROXY header whom it speaks for.

The header is read before the service's protocol begins, and not a byte behind it: a
``BufferedProtocol`` says how much the engine may receive. So the protocol, or its verb, finds the
connection as if the client had connected to it.
"""

from __future__ import annotations

import copy
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeAlias

from muxcore._seldom import Seldom
from muxcore.limits import seconds
from muxcore.parts import dispatch

logger = logging.getLogger("muxcore")

_MOST = 16 + 65_535  # bytes: the length behind the first 16 is a number of two
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


class BehindProxy:
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
        if isinstance(trusted, str):
            raise TypeError(f"BehindProxy(trusted={trusted!r}): give a list, such as [{trusted!r}]")
        names = list(trusted)
        if not names:
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
        self.service = service
        self.trusted = [_network(name) for name in names if name != "unix"]
        self.trusts_unix = "unix" in names
        self.timeout = timeout
        self.max_header = max_header
        self.counts: Counter[str] = Counter()
        self._log = Seldom(logger.warning)

    def __call__(self) -> Any:
        """Return the protocol that reads the header."""
        from muxcore.services.preface import Preface

        return Preface(self)

    def __repr__(self) -> str:
        return f"BehindProxy({dispatch.describe(self.service)})"

    def around(self, service: Any) -> Self:
        """Return the same around another service; both count together."""
        other = copy.copy(self)
        other.service = service
        return other

    # -- what a server asks of a service

    @property
    def requires(self) -> frozenset[str]:
        """What it requires of an engine, and what the service does."""
        dispatch.check_service(self.service)  # a server asks when it is made: it is refused then
        brought = getattr(self.service, "requires", None) or ()
        return frozenset([brought] if isinstance(brought, str) else brought) | {"timers"}

    @property
    def limits(self) -> Any:
        """What the service lays over the server's ``Limits``."""
        return getattr(self.service, "limits", None)

    def server_started(self, server: Any) -> None:
        """Let the service hear of it, as it would by itself."""
        if not isinstance(self.service, type) and hasattr(self.service, "server_started"):
            self.service.server_started(server)

    # -- for its connections

    def trusts(self, peername: Any) -> bool:
        """Return whether a peer may send a header.

        Args:
            peername: its socket address.
        """
        if not isinstance(peername, tuple):
            return self.trusts_unix and peername is not None
        host = ipaddress.ip_address(peername[0].partition("%")[0])
        host = getattr(host, "ipv4_mapped", None) or host
        return any(host in network for network in self.trusted)

    def refuse(self, transport: Any, what: str, why: object) -> None:
        """Close a connection, and tell of it at a bounded rate.

        Args:
            transport: the connection.
            what: the count's name.
            why: for the log; none of it is a stranger's bytes as they came.
        """
        self.counts[what] += 1
        self._log.tell("connection from %s is closed: %s", dispatch.peer_of(transport), why)
        transport.abort()


def within(service: Any, change: Callable[[Any], Any]) -> Any:
    """Return what a service is changed to; of one that is behind a proxy, that one is changed."""
    if isinstance(service, BehindProxy):
        return service.around(change(service.service))
    return change(service)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except (TypeError, ValueError) as exc:
        raise ValueError(
            "BehindProxy(trusted=…): trusted must be networks such as '10.0.0.0/8', or 'unix', not "
            f"{text!r}: {exc}"
        ) from None
