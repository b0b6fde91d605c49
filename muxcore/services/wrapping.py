"""What lies around a service: it decides about connections before the service has them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

from muxcore.parts import dispatch


class Wrapper:
    """A service around another one, whatever kind that is.

    Args:
        service: what is within.
    """

    _name = ""  # what a file calls it, for logs and metrics

    def __init__(self, service: Any) -> None:
        self.service = service

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dispatch.describe(self.service)})"

    def around(self, service: Any) -> Self:
        """Return the same around another service; both count together."""
        other = copy.copy(self)
        other.service = service
        return other

    # -- what a server asks of a service

    @property
    def needs(self) -> frozenset[str]:
        """What it requires of an engine itself."""
        return frozenset()

    @property
    def requires(self) -> frozenset[str]:
        """What it requires of an engine, and what the service does."""
        dispatch.check_service(self.service)  # a server asks when it is made: it is refused then
        brought = getattr(self.service, "requires", None) or ()
        return frozenset([brought] if isinstance(brought, str) else brought) | self.needs

    @property
    def limits(self) -> Any:
        """What the service lays over the server's ``Limits``."""
        return getattr(self.service, "limits", None)

    def server_started(self, server: Any) -> None:
        """Let the service hear of it, as it would by itself."""
        if (started := dispatch.hook_of(self.service, "server_started")) is not None:
            started(server)

    def server_ended(self) -> None:
        """Let it hear of the end."""
        if (ended := dispatch.hook_of(self.service, "server_ended")) is not None:
            ended()

    def share_of(self, number: int, count: int) -> Self:
        """Return what one of several workers serves: see ``dispatch.share_of``."""
        return self.around(dispatch.share_of(self.service, number, count))


def within(service: Any, change: Callable[[Any], Any]) -> Any:
    """Return what a service is changed to; of one that is wrapped, the innermost is changed."""
    if isinstance(service, Wrapper):
        return service.around(within(service.service, change))
    return change(service)


def enter(transport: Any, service: Any) -> None:
    """Let a service have a connection, as if it had been accepted just now."""
    engine = transport._engine

    def count(exc: BaseException) -> None:
        engine.errors[type(exc).__name__] += 1

    made = dispatch.made_for(service, _itself, count)
    if made is None:
        transport.abort()
        return
    protocol, verb = made
    transport.set_protocol(protocol)
    dispatch.call(transport, protocol, "connection_made", transport)
    transport._begin_declared(verb)
    if engine.draining:
        transport.tell_draining()


def _itself(protocol: Any) -> Any:
    return protocol
