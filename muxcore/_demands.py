"""What is demanded: addresses to listen on, and what a service requires or brings with it."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping, Sequence

from muxcore import address, registry
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import CapabilityMissing, ServiceError
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.protocol import Service


class Complete(Limits):
    """Limits of which the service's own are a part already: a worker is given them."""


def places(where: Sequence[str | int | Address | socket.socket]) -> list[socket.socket | Address]:
    """Return where a server is to listen.

    Raises:
        TypeError, AddressError, ValueError: see ``Server``.
    """
    if not where:
        raise TypeError("Server needs at least one address, such as '127.0.0.1:9000'")
    found = [
        each if isinstance(each, socket.socket) else address.parse(each, listen=True)
        for each in where
    ]
    given = [id(each) for each in where if isinstance(each, socket.socket | Address)]
    if len(set(given)) < len(given):
        raise ValueError("a socket or an address is given twice: each is listened on once")
    return found


def check_requirements(service: Service, chosen: type[Engine]) -> None:
    """Compare what a service ``requires`` with what an engine can do.

    Raises:
        ServiceError: ``requires`` is no set of names.
        CapabilityMissing: the engine lacks something; the message names engines that have it all.
    """
    required = _required(service)
    missing = required - chosen.capabilities
    if missing:
        able = [i.name for i in registry.engines() if i.available and required <= i.capabilities]
        raise CapabilityMissing(
            f"the service requires {', '.join(sorted(missing))}, which engine {chosen.name!r} "
            f"does not have; {'take ' + ' or '.join(able) if able else 'no engine here has it'}"
        )


def refuse_shared_state(service: Service, workers: int) -> None:
    """Refuse a service whose connections must reach one another: they would be apart.

    Raises:
        CapabilityMissing: it requires ``shared_state``.
    """
    if "shared_state" in _required(service):
        raise CapabilityMissing(
            f"the service requires shared_state, which {workers} workers do not have: each is a "
            "process of its own; take one worker, or none"
        )


def _required(service: Service) -> frozenset[str]:
    """Return the names; a name alone, without a set around it, is that one name."""
    requires = getattr(service, "requires", None) or ()
    try:
        required = frozenset([requires] if isinstance(requires, str) else requires)
    except TypeError:
        required = frozenset([requires])
    if not all(isinstance(name, str) for name in required):
        raise ServiceError(
            f"service {dispatch.describe(service)} requires {requires!r}: name capabilities, as in "
            "requires = {'relay', 'timers'}"
        )
    return required


def limits_with(service: Service, limits: Limits) -> Limits:
    """Lay the limits that a service brings over the server's.

    Raises:
        ServiceError: they are no mapping, or cannot be.
    """
    brought = getattr(service, "limits", None)
    if brought is None or isinstance(limits, Complete):
        return limits
    name = dispatch.describe(service)
    if not isinstance(brought, Mapping):
        raise ServiceError(
            f"service {name} brings limits that are no mapping but {brought!r}: name those that it "
            "changes, as in limits = {'idle_timeout': 30}; all others are the server's"
        )
    try:
        return dataclasses.replace(limits, **brought)
    except (TypeError, ValueError) as exc:
        raise ServiceError(f"service {name} brings limits that cannot be: {exc}") from exc
