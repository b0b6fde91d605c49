"""Who a peer is: its address as a number, the networks it is in, and what counts as one source."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, IPv4 as a socket for IPv6 has it: RFC 4291
_SITE = 8  # bytes of an IPv6 address: what one customer has at least, RFC 6177


class Networks:
    """Networks, and perhaps "unix": whoever may connect to a unix socket.

    To look for one peer takes a look for each length of prefix, however many networks there are.

    Args:
        owner: what they are given to, for the message.
        name: the argument.
        texts: such as "10.0.0.0/8", "::1" or "unix".

    Raises:
        TypeError: it is a text alone.
        ValueError: one of them is no network.
    """

    def __init__(self, owner: str, name: str, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise TypeError(f"{owner}({name}={texts!r}): give a list, such as [{texts!r}]")
        self.texts = tuple(texts)
        self._has_unix = "unix" in self.texts
        self._of: dict[tuple[int, int], set[int]] = {}  # by bytes of an address, and bits behind
        for text in self.texts:
            if text != "unix":
                self._add(owner, name, text)

    def _add(self, owner: str, name: str, text: Any) -> None:
        import ipaddress

        try:
            network = ipaddress.ip_network(text)
        except (TypeError, ValueError) as exc:
            raise ValueError(
                f"{owner}({name}=…): {name} must be networks such as '10.0.0.0/8', or 'unix', not "
                f"{text!r}: {exc}"
            ) from None
        size, behind = network.max_prefixlen // 8, network.max_prefixlen - network.prefixlen
        start = int(network.network_address)
        self._of.setdefault((size, behind), set()).add(start >> behind)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def have(self, peername: Any) -> bool:
        """Return whether a peer is in one of them.

        Args:
            peername: as ``get_extra_info`` has it; None: it cannot be asked for any more.
        """
        if not isinstance(peername, tuple):
            return self._has_unix and peername is not None
        packed = packed_host(peername[0])
        number = int.from_bytes(packed)
        return any(
            number >> behind in starts
            for (size, behind), starts in self._of.items()
            if size == len(packed)
        )


def packed_host(host: str) -> bytes:
    """Return an address as bytes; IPv4 within IPv6 as IPv4."""
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed


def source_of(peername: Any) -> bytes:
    """Return what a peer is counted by: an IPv4 address, or the /64 of an IPv6 one.

    All peers of unix sockets are one source, and so are those that were gone before they could be
    asked for their address.
    """
    if not isinstance(peername, tuple):
        return b"?" if peername is None else b"unix"
    packed = packed_host(peername[0])
    return packed[:_SITE] if len(packed) > _SITE else packed
