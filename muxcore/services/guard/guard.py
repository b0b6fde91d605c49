"""A service with a guard at its door: who may come, how many at once, and how fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from muxcore.services.wrapping import Wrapper, enter


class Guard(Wrapper):
    """A service for those who may come, and no more of them than there may be.

    ::

        relay = muxcore.Relay("db1:5432")
        guarded = muxcore.Guard(relay, allow=["10.0.0.0/8"], source_connections=20)
        muxcore.serve(guarded, "0.0.0.0:5432")

    It judges a connection when it comes, by ``get_extra_info("peername")``: outside of a
    ``BehindProxy`` that is the socket's address, within it the client's. What it lets in it counts
    to its end, whatever has it by then. A source is an IPv4 address, the /64 of an IPv6 one, or all
    unix sockets together.

    Args:
        service: what is behind it: any service; with ``muxcore.aio.serve`` a handler, too.
        allow: networks, such as "10.0.0.0/8" or "::1", of those who may come; "unix" means whoever
            may connect to a unix socket. None at all: everybody may.
        deny: networks of those who may not; whoever is in both may not.
        connections: at once. (``Limits.connections`` lets further ones wait, this refuses them.)
        rate: new connections a second, of which at most a second's worth at once.
        source_connections, source_rate: the same of each source.
        bytes_up, bytes_down: bytes a second that clients send, and that they are sent by a relay's
            other side; all together, as of ``muxcore.Rate``. What a protocol itself writes is not
            counted.
        source_bytes_up, source_bytes_down: the same of each source.
        sources: those that are known at once; see ``sources.py`` for what is beyond.
        refuse: how a connection ends that is not let in: "close", or "reset".

    Attributes:
        service: what is behind it.
        counts: connections in this process: "accepted", and those that were refused, by why:
            "denied", "connections", "rate", "source_connections", "source_rate".

    Raises:
        TypeError: ``allow`` or ``deny`` is a text alone, or what should be a number is none.
        ValueError: a network is none, or a number cannot work.
    """

    def __init__(
        self,
        service: Any,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        connections: int | None = None,
        rate: float | None = None,
        source_connections: int | None = None,
        source_rate: float | None = None,
        bytes_up: float | None = None,
        bytes_down: float | None = None,
        source_bytes_up: float | None = None,
        source_bytes_down: float | None = None,
        sources: int = 65_536,
        refuse: str = "close",
    ) -> None:
        from muxcore.services.guard.door import Door  # only who wants it pays for it

        super().__init__(service)
        self._is_share = False
        self._door = Door(
            {
                "allow": _kept(allow),
                "deny": _kept(deny),
                "connections": connections,
                "rate": rate,
                "source_connections": source_connections,
                "source_rate": source_rate,
                "bytes_up": bytes_up,
                "bytes_down": bytes_down,
                "source_bytes_up": source_bytes_up,
                "source_bytes_down": source_bytes_down,
                "sources": sources,
                "refuse": refuse,
            }
        )

    def __call__(self) -> Any:
        """Return the protocol that lets a connection in."""
        return _Entry(self)

    @property
    def counts(self) -> Counter[str]:
        return self._door.counts

    @property
    def active(self) -> int:
        """Connections that are in now, in this process."""
        return self._door.active

    def change(self, **settings: Any) -> None:
        """Allow something else from now on, in the engine's thread; what is not named stays.

        What is counted stays, too, and so does whoever is in. Connections that came while no limit
        was for sources are not counted as their sources'; nor are bytes of connections for which
        there was no limit.

        Args:
            settings: as of ``Guard``.

        Raises:
            TypeError, ValueError: see ``Guard``; then nothing has changed.
            CapabilityMissing: the engine cannot do that.
        """
        known = self._door.given
        for name in settings.keys() - known.keys():
            raise TypeError(f"Guard.change({name}=…): there are {', '.join(known)}")
        for name in ("allow", "deny"):
            if name in settings:
                settings[name] = _kept(settings[name])
        self._door.change(settings)

    # -- what a server asks of a service

    @property
    def needs(self) -> frozenset[str]:
        return self._door.rules.requires - ({"shared_state"} if self._is_share else set())

    def server_started(self, server: Any) -> None:
        self._door.server = server
        super().server_started(server)

    def share_of(self, number: int, count: int) -> Self:
        """Return what one of several workers serves: its share of what all may do."""
        shared = super().share_of(number, count)
        shared._is_share = True
        shared._door = self._door.share_of(number, count)
        return shared


class _Entry:
    """The protocol of a connection that is at the door."""

    __slots__ = ("_guard",)

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connection_made(self, transport: Any) -> None:
        guard = self._guard
        if guard._door.lets_in(transport):
            enter(transport, guard.service)


def _kept(networks: Any) -> Any:
    """Return what may be looked at more than once; a text alone is refused later on."""
    return networks if isinstance(networks, str) else tuple(networks)
