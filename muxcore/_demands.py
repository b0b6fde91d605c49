"""What is demanded: addresses to listen on, and what a service requires or brings with it."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from muxcore import address, registry
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import CapabilityMissing, ServiceError
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.protocol import Service


class Complete(Limits):
    """Limits of which the service's own are a part already: a worker is given them."""


Where: TypeAlias = "str | int | Address | socket.socket"
Services: TypeAlias = "Service | Mapping[Where, Service]"


def served(service: Services, where: Sequence[Where]) -> list[tuple[socket.socket | Address, Any]]:
    """Return where a server is to listen, and what it serves there.

    Raises:
        TypeError, AddressError, ServiceError, ValueError: see ``Server``.
    """
    if not isinstance(service, Mapping):
        dispatch.check_service(service)
        return [(each, service) for each in _places(where)]
    if where:
        raise TypeError(
            f"Server({{address: service, …}}, {where[0]!r}): a mapping says where: put the address "
            "into it, with its service"
        )
    for each in service.values():
        dispatch.check_service(each)
    found = list(zip(_places(list(service)), service.values(), strict=True))
    known: dict[Address, Service] = {}
    for place, its in found:
        # port 0 is another one each time
        if not isinstance(place, socket.socket) and (place.port or not place.host):
            other = known.setdefault(place, its)
            if other is not its:
                names = " and ".join(map(dispatch.describe, (other, its)))
                raise ValueError(f"{place} is given to two services, {names}: each has its own")
    return found


def distinct(services: Iterable[Service]) -> tuple[Service, ...]:
    """Return each of them once, in order."""
    return tuple({id(each): each for each in services}.values())


def each_changed(service: Any, change: Callable[[Any], Any]) -> Any:
    """Return what is served after a change of each service; one that is served twice stays one.

    Args:
        service: it, or a mapping, as ``Server`` takes them.
        change: returns what it is changed to.
    """
    if not isinstance(service, Mapping):
        return change(service)
    changed = {id(each): change(each) for each in distinct(service.values())}
    return {where: changed[id(each)] for where, each in service.items()}


def _places(where: Sequence[Where]) -> list[socket.socket | Address]:
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


def check_requirements(services: Sequence[Service], chosen: type[Engine]) -> None:
    """Compare what services ``require`` with what an engine can do.

    Raises:
        ServiceError: ``requires`` is no set of names.
        CapabilityMissing: the engine lacks something; the message names engines that have it all.
    """
    required = {id(each): _required(each) for each in services}
    everything = frozenset[str]().union(*required.values())
    for service in services:
        if missing := required[id(service)] - chosen.capabilities:
            infos = registry.engines()
            able = [i.name for i in infos if i.available and everything <= i.capabilities]
            raise CapabilityMissing(
                f"{_name(service, services)} requires {', '.join(sorted(missing))}, which engine "
                f"{chosen.name!r} does not have; "
                f"{'take ' + ' or '.join(able) if able else 'no engine here has it'}"
            )


def refuse_shared_state(services: Sequence[Service], workers: int) -> None:
    """Refuse a service whose connections must reach one another: they would be apart.

    Raises:
        CapabilityMissing: it requires ``shared_state``.
    """
    for service in services:
        if "shared_state" in _required(service):
            raise CapabilityMissing(
                f"{_name(service, services)} requires shared_state, which {workers} workers do not "
                "have: each is a process of its own; take one worker, or none"
            )


def _name(service: Service, services: Sequence[Service]) -> str:
    return f"service {dispatch.describe(service)}" if len(services) > 1 else "the service"


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


def limits_with(services: Sequence[Service], limits: Limits) -> Limits:
    """Lay the limits that services bring over the server's.

    Raises:
        ServiceError: they are no mapping, or cannot be; or two services contradict each other.
    """
    if isinstance(limits, Complete):
        return limits
    from_whom: dict[str, tuple[Any, str]] = {}
    for service in services:
        brought = getattr(service, "limits", None)
        if brought is None:
            continue
        name = dispatch.describe(service)
        if not isinstance(brought, Mapping):
            raise ServiceError(
                f"service {name} brings limits that are no mapping but {brought!r}: name those "
                "that it changes, as in limits = {'idle_timeout': 30}; all others are the server's"
            )
        try:
            limits = dataclasses.replace(limits, **brought)
        except (TypeError, ValueError) as exc:
            raise ServiceError(f"service {name} brings limits that cannot be: {exc}") from exc
        for limit, value in brought.items():
            other, whose = from_whom.setdefault(limit, (value, name))
            if other != value:
                raise ServiceError(
                    f"service {whose} brings {limit}={other!r}, and service {name} "
                    f"{limit}={value!r}: a server has one; give it to the server itself"
                )
    return limits
