"""What a file says is served: pools, and a service for each listener; it may change in place."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from muxcore import _demands, registry
from muxcore.address import with_rights
from muxcore.config.document import Document
from muxcore.config.making import Making
from muxcore.config.rings import Chains
from muxcore.errors import MuxcoreError
from muxcore.parts import checking
from muxcore.pool import Pool
from muxcore.protocol import Service
from muxcore.services.behind_proxy import BehindProxy
from muxcore.services.relay import Relay
from muxcore.services.wrapping import Wrapper

logger = logging.getLogger("muxcore")

T = TypeVar("T")

# Keys of a pool, and what each is about.
_NEEDED = {
    "queue": ("max_active", "rate"),
    "queue_timeout": ("queue",),
    "max_ejected": ("eject_after",),
}


class Entrance:
    """The service of a listener: what the file says now.

    Attributes:
        service: that.
    """

    def __init__(self, served: Served, name: str, service: Service) -> None:
        self.service = service
        self._served = served
        self._name = name

    def __call__(self) -> Any:
        return self.service()

    def __repr__(self) -> str:
        return f"listeners.{self._name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _entrance, (self._served, self._name)

    @property
    def services_gone(self) -> tuple[Any, ...]:
        """Relays that have clients still, and that nobody comes to any more."""
        return self._served.gone

    @property
    def requires(self) -> Any:
        """What the service requires of an engine."""
        return getattr(self.service, "requires", ())

    def share_of(self, number: int, count: int) -> Entrance:
        """Return what one of several workers serves."""
        return self._served.shared(number, count).entrances[self._name]

    def server_ended(self) -> None:
        """Let the service hear of the end."""
        if hasattr(self.service, "server_ended"):
            self.service.server_ended()

    def server_started(self, server: Any) -> None:
        """Hear that a server serves it, and let the service hear so."""
        self._served.server = server
        if hasattr(self.service, "server_started"):
            self.service.server_started(server)

    def renewed(self, news: bytes) -> None:
        """Hear, in a worker, of a file that its parent has read again."""
        try:
            self._served.renew(pickle.loads(news))
        except Exception as exc:
            logger.critical(
                "worker %d cannot do what the file says now, and goes on as before: end it, and "
                "another one begins with the new file",
                os.getpid(),
                exc_info=exc,
            )


class Served:
    """What a file says is served.

    Args:
        document: the file.
        share: (number, count) of a worker, which has its share of what all may do; None: all.

    Attributes:
        document: the same; after a change, the new one.
        pools, guards, routers: by their names.
        entrances: the service of each listener.
        limits: the server's.
        warnings: what is right, and surely not meant.
        server: that serves it, once its services were told so; None: they never are, or not yet.

    Raises:
        ConfigError: the file says what cannot be.
    """

    def __init__(self, document: Document, share: tuple[int, int] | None = None) -> None:
        self.document = document
        self.server: Any = None
        self._share = share
        self._shared: Served | None = None
        self._gone: list[Relay] = []
        making = Making(document)
        self.limits = making.limits()
        access = making.access_log()
        self.pools = _made(document.section("pools"), making.pool)
        self.guards = _made(document.section("limits"), making.guard)
        if share is not None:
            self.pools = {name: each.share_of(*share) for name, each in self.pools.items()}
            self.guards = {name: each.share_of(*share) for name, each in self.guards.items()}
        self.routers = _made(document.section("routes"), partial(making.router, self.pools, access))
        self._relays = {name: Relay(pool, access_log=access) for name, pool in self.pools.items()}
        services = self._services(making)
        self._chains = Chains(document)
        making.check(self._chains)
        document.refuse()
        self.warnings = [*_unused(document), *_without_effect(document)]
        self._set_apart()
        self.entrances = {name: Entrance(self, name, each) for name, each in services.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Served, (self.document, self._share)

    @property
    def gone(self) -> tuple[Relay, ...]:
        """Relays that a change has left with clients, of which somebody has asked."""
        return tuple(each for each in self._gone if each.clients)

    def shared(self, number: int, count: int) -> Served:
        """Return what one of several workers serves."""
        if self._shared is None or self._shared._share != (number, count):
            self._shared = Served(self.document, (number, count))
        return self._shared

    def where(self, owner: tuple[int, int] | None = None) -> dict[Any, Service]:
        """Return what is served where.

        Args:
            owner: (uid, gid) whose the files of unix sockets are to be; None: the process's.
        """
        return {
            with_rights(address, table.get("socket_mode"), owner): self.entrances[name]
            for name, table in self.document.section("listeners").items()
            for address in table["address"]
        }

    def told(self) -> Iterator[str]:
        """Yield a line for each address: who gets its clients."""
        for name, table in self.document.section("listeners").items():
            if "route" in table:
                who = f"route {table['route']}"
            else:
                upstreams = self.pools[table["pool"]].upstreams
                who = f"pool {table['pool']} of {', '.join(each.name for each in upstreams)}"
            for where in table["address"]:
                yield f"{where} (listeners.{name}): {who}"

    def advised(self) -> Iterator[str]:
        """Yield what whoever has a file checked may not have thought of; a server tells none."""
        document = self.document
        limits = document.section("server").get("limits", {})
        pools, listeners = document.section("pools").values(), document.section("listeners")
        ends = [each["address"] for pool in pools for each in pool["upstreams"]]
        ends += [each for its in listeners.values() for each in its["address"]]
        if limits.get("keepalive") or limits.get("idle_timeout") or all(each.path for each in ends):
            return  # a user_timeout is about bytes that were sent: of a pair that is idle, none
        forever = [
            f"listeners.{name}" for name, its in listeners.items() if "idle_timeout" not in its
        ]
        if forever:
            whose = " or ".join([*forever[:3], *(["others"] if forever[3:] else [])])
            what = (
                f"no keepalive and no idle_timeout: a pair of {whose} whose peer "
                "vanishes without a word stays until somebody sends it bytes; give server.limits "
                'keepalive = "60s", or idle_timeout'
            )
            yield document.told(("server", "limits"), what)

    def demand(self, engine: str | None) -> None:
        """Compare what is served with what an engine can do; several workers can do the same.

        Args:
            engine: its name, or as ``Server`` takes it.

        Raises:
            ConfigError: it cannot do all of that, or there is none such.
        """
        services: list[Any] = list(self.entrances.values())
        try:
            chosen = registry.engine(engine)
            if self.document.section("admin") and "shared_state" not in chosen.capabilities:
                what = "has a process for each client, and nothing that could be shown or changed"
                self.document.wrong(("admin",), f"engine {chosen.name!r} {what}")
            _demands.check_requirements(services, chosen)
        except MuxcoreError as exc:
            self.document.wrong(("server", "engine"), str(exc))
        self.document.refuse()

    def change(self, new: Served) -> None:
        """Serve what another file says from now on; in the engine's thread.

        Connections stay, with the pool that they have; whoever comes finds the new one. A pool that
        is gone is checked no more, and whoever waits for a place in it is served or refused.

        Args:
            new: that; it serves nobody, and is not needed any more.
        """
        document, relays_before = new.document, self._every_relay()
        before, now = self.document.section("pools"), document.section("pools")
        for name, pool in _kept(self.pools, new.pools):
            self._change_pool(pool, new.pools[name], before[name], now[name])
        gone = [pool for name, pool in self.pools.items() if name not in new.pools]
        self.pools = new.pools | dict(_kept(self.pools, new.pools))
        for name, guard in _kept(self.guards, new.guards):
            guard.change(**new.guards[name]._door.given)
        self.guards = new.guards | dict(_kept(self.guards, new.guards))
        making = Making(document)
        access = making.access_log()
        relays = {name: Relay(pool, access_log=access) for name, pool in self.pools.items()}
        for name, relay in _kept(self._relays, relays):
            relay.log = relays[name].log
        self._relays = relays | dict(_kept(self._relays, relays))
        routers = _made(document.section("routes"), partial(making.router, self.pools, access))
        for name, router in _kept(self.routers, routers):
            router._become(routers[name])
        if self.server is not None:
            for router in (each for name, each in self.routers.items() if name not in routers):
                # by then nobody waits for a decision of its
                self.server.call_later(router.decide_timeout, router.server_ended)
        self.routers = routers | dict(_kept(self.routers, routers))
        self.document, self._chains = document, new._chains
        self._set_apart()
        self._follow(relays_before)
        for name, service in self._services(making).items():
            _count_on(self.entrances[name].service, service)
            self.entrances[name].service = service
            if self.server is not None:
                self.entrances[name].server_started(self.server)
        for pool in gone:
            checking.end(pool)

    def renew(self, document: Document) -> None:
        """Serve what a file says that was read again, in a worker; each listener asks for it.

        Raises:
            ConfigError: it says what cannot be; nothing has changed then.
        """
        if document.tables != self.document.tables:
            self.change(Served(document, self._share))

    def _set_apart(self) -> None:
        """Tell each pool which listeners may be upstreams of it."""
        for name, pool in self.pools.items():
            pool.apart = self._chains.apart(name)

    def _every_relay(self) -> list[Relay]:
        routed = chain.from_iterable(router.services for router in self.routers.values())
        return [*self._relays.values(), *routed]

    def _follow(self, before: list[Relay]) -> None:
        """Let whoever asks for clients have those of new relays, too, and of those that are gone.

        Args:
            before: the relays until now.
        """
        now = self._every_relay()
        if any(each.clients is not None for each in before):
            for each in now:
                each.follow()
        self._gone = [each for each in (*self.gone, *before) if each not in now]

    def _change_pool(
        self, pool: Pool, new: Pool, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        """Change a pool; upstreams of which the file says what it said stay as they are steered."""
        said = {each["address"]: each for each in before["upstreams"]}
        same = {
            str(each["address"]) for each in now["upstreams"] if said.get(each["address"]) == each
        }
        ours = {each.name: each for each in pool.upstreams}
        upstreams = [
            ours.get(each.name, each) if each.name in same else each for each in new.upstreams
        ]
        pool.change(*upstreams, **new._made_with)

    def _services(self, making: Making) -> dict[str, Service]:
        """Return the service of each listener."""
        within: dict[str, Mapping[str, Service]] = {}
        within["pool"], within["route"] = self._relays, self.routers
        return _made(
            self.document.section("listeners"), partial(making.service, within, self.guards)
        )


def _made(
    tables: Mapping[str, Mapping[str, Any]], make: Callable[[str, Mapping[str, Any]], T | None]
) -> dict[str, T]:
    """Return what is made of tables, by their names; but for what cannot be, which is noted."""
    made = {name: make(name, table) for name, table in tables.items()}
    return {name: each for name, each in made.items() if each is not None}


def _kept(before: Mapping[str, T], now: Mapping[str, Any]) -> list[tuple[str, T]]:
    """Return what there was before, and still is."""
    return [(name, each) for name, each in before.items() if name in now]


def _unused(document: Document) -> list[str]:
    """Return what is in a file and nothing uses it, with its line."""
    sections = {name: document.section(name) for name in ("listeners", "pools", "routes", "limits")}
    listeners, routes = sections["listeners"].values(), sections["routes"].values()
    rules = [rule for route in routes for rule in route.get("rules", ())]
    named = [rule["pool"] for rule in rules] + [route.get("default") for route in routes]
    used = {
        "pools": {*named, *(each.get("pool") for each in listeners)},
        "routes": {each.get("route") for each in listeners},
        "limits": {each.get(key) for each in listeners for key in ("limits", "proxy_limits")},
    }
    if any("decide" in route for route in routes):  # it may name any
        used["pools"] |= set(sections["pools"])
    return [
        document.told((section, name), "nothing uses it")
        for section, names in used.items()
        for name in sections[section]
        if name not in names
    ]


def _without_effect(document: Document) -> Iterator[str]:
    """Yield what is said that means little without another key of a pool, which it lacks."""
    for name, table in document.section("pools").items():
        given = {*table, *chain.from_iterable(table["upstreams"])}
        if table.get("check", {}).get("agent") is not None:
            given.add("max_active")  # an agent may say maxconn
        for key, needed in _NEEDED.items():
            if key in table and given.isdisjoint(needed):
                what = f"has no effect without {' or '.join(needed)}"
                yield document.told(("pools", name, key), what)
    for name in document.section("admin").get("ready_needs", ()):
        if "check" not in document.section("pools")[name]:
            what = f"pool {name} has no check: it is unready only where somebody took all out"
            yield document.told(("admin", "ready_needs"), what)


def _count_on(before: Any, now: Any) -> None:
    """Let a service behind proxies count on where the one before has begun."""
    for each in _wrapped(now):
        for other in _wrapped(before):
            if isinstance(each, BehindProxy) and isinstance(other, BehindProxy):
                each.counts = other.counts


def _wrapped(service: Any) -> Iterator[Any]:
    while isinstance(service, Wrapper):
        yield service
        service = service.service


def _entrance(served: Served, name: str) -> Entrance:
    return served.entrances[name]
