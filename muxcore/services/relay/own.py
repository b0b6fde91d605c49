"""Whether an upstream is the relay's own server: each client would be joined with the relay again.

One client would then take every connection there may be, and leave them joined in a ring when it
goes. It is known of addresses that are written out, and of ``localhost``. It is not known of other
names, which are looked up for each client, nor of a ring by way of another relay: there
``max_connections`` bounds what one client takes, and ``idle_timeout`` how long. Of the listeners of
a file one may be the upstream of another; ``muxcore.config.rings`` knows their rings.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from muxcore.address import Address, literal

_LOOPBACK = ("127.0.0.1", "::1")  # what "localhost" is: RFC 6761, section 6.3


def is_own(upstream: Address, listening: Iterable[Address]) -> bool:
    """Return whether a connection to ``upstream`` surely comes to one of these listeners."""
    targets = [upstream]
    if upstream.host.lower() == "localhost":
        targets = [replace(upstream, host=host) for host in _LOOPBACK]
    return any(
        family == its_family and _meets(family, target, its)
        for each in listening
        for its_family, its in literal(each)
        for where in targets
        for family, target in literal(where)
    )


def _meets(family: int, target: Any, listener: Any) -> bool:
    if family == socket.AF_UNIX:
        return bool(os.path.abspath(target) == os.path.abspath(listener))
    if target[1] != listener[1]:  # the port
        return False
    host, its_host = ipaddress.ip_address(target[0]), ipaddress.ip_address(listener[0])
    if host.is_unspecified:  # who connects there comes to this machine's loopback
        return its_host.is_unspecified or its_host.is_loopback
    if host == its_host:
        return True
    return its_host.is_unspecified and _is_of_this_machine(family, target[0])


def _is_of_this_machine(family: int, host: str) -> bool:
    """Return whether the kernel lets a socket have this address."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            return False
    return True
