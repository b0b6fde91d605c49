"""What a file says is served: pools, and a service for each listener; it may change in place."""

from __future__ import annotations

import functools
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from muxcore import _demands, registry
from muxcore.address import Address
from muxcore.config.document import Document
from muxcore.errors import MuxcoreError
from muxcore.limits import Limits
from muxcore.pool import Check, Pool, Upstream
from muxcore.protocol import Service
from muxcore.services.behind_proxy import BehindProxy
from muxcore.services.relay import Relay
from muxcore.services.relay.own import is_own

logger = logging.getLogger("muxcore")

T = TypeVar("T")

_BEHIND = {"trusted": "accept_proxy", "timeout": "proxy_timeout"}  # arguments that are other keys


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
    def requires(self) -> Any:
        """What the service requires of an engine."""
        return getattr(self.service, "requires", ())

    def server_started(self, server: Any) -> None:
        """Hear that a server serves it, and let the service hear so."""
        self._served.server = server
        if hasattr(self.service, "server_started"):
            self.service.server_started(server)

    def renewed(self, news: bytes) -> None:
        """Hear, in a worker, of a file that its parent has read again."""
        try:
            self._served.change(pickle.loads(news))
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

    Attributes:
        document: the same; after a change, the new one.
        pools: by their names.
        entrances: the service of each listener.
        limits: the server's.
        warnings: what is right, and surely not meant.
        server: that serves it, once its services were told so; None: they never are, or not yet.

    Raises:
        ConfigError: the file says what cannot be.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.pools: dict[str, Pool] = {}
        self.server: Any = None
        self._relays: dict[str, Relay] = {}
        self._making = _Making(document)
        for name, table in document.section("pools").items():
            pool = self._making.pool(name, table)
            if pool is not None:
                self.pools[name] = pool
        self.limits = self._making.limits()
        self._make_relays()
        self._making.check()
        services = self._services()
        document.refuse()
        self.warnings = self._unused()
        self.entrances = {name: Entrance(self, name, each) for name, each in services.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Served, (self.document,)

    def where(self, owner: tuple[int, int] | None = None) -> dict[Any, Service]:
        """Return what is served where.

        Args:
            owner: (uid, gid) whose the files of unix sockets are to be; None: the process's.
        """
        return {
            _with_rights(address, table.get("socket_mode"), owner): self.entrances[name]
            for name, table in self.document.section("listeners").items()
            for address in table["address"]
        }

    def told(self) -> Iterator[str]:
        """Yield a line for each address: who gets its clients."""
        for name, table in self.document.section("listeners").items():
            pool = table["pool"]
            upstreams = ", ".join(each.name for each in self.pools[pool].upstreams)
            for where in table["address"]:
                yield f"{where} (listeners.{name}): pool {pool} of {upstreams}"

    def demand(self, engine: str | None, workers: int) -> None:
        """Compare what is served with what an engine can do.

        Args:
            engine: its name, or as ``Server`` takes it.
            workers: how many there are.

        Raises:
            ConfigError: it cannot do all of that, or there is none such.
        """
        services = list(self.entrances.values())
        try:
            _demands.check_requirements(services, registry.engine(engine))
        except MuxcoreError as exc:
            self.document.wrong(("server", "engine"), str(exc))
        try:
            if workers > 1:
                _demands.refuse_shared_state(services, workers)
        except MuxcoreError as exc:
            self.document.wrong(("server", "workers"), str(exc))
        self.document.refuse()

    def change(self, document: Document) -> None:
        """Serve what another file says from now on; in the engine's thread.

        Connections stay, with the pool that they have; whoever comes finds the new one. A pool that
        is gone is checked no more, and whoever waits for a place in it is served or refused.

        Raises:
            ConfigError: the file says what cannot be; nothing has changed then.
        """
        if document.tables == self.document.tables:  # it was told by another listener
            return
        new = Served(document)
        before, now = self.document.section("pools"), document.section("pools")
        for name, pool in self.pools.items():
            if name in new.pools:
                self._change_pool(pool, new.pools[name], before[name], now[name])
            else:
                pool.change(check=None)
        self.pools = {name: self.pools.get(name, pool) for name, pool in new.pools.items()}
        self.document, self._making = document, new._making
        self._make_relays()
        for name, service in self._services().items():
            self.entrances[name].service = service
            if self.server is not None:
                self.entrances[name].server_started(self.server)

    def _change_pool(
        self, pool: Pool, new: Pool, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        """Change a pool; upstreams of which the file says what it said stay as they are steered."""
        said = [each for each in now["upstreams"] if each in before["upstreams"]]
        same = {str(each["address"]) for each in said}
        ours = {each.name: each for each in pool.upstreams}
        upstreams = [
            ours.get(each.name, each) if each.name in same else each for each in new.upstreams
        ]
        pool.change(*upstreams, **new._made_with)

    def _unused(self) -> list[str]:
        document = self.document
        used = {table["pool"] for table in document.section("listeners").values()}
        return [
            document.told(("pools", name), "nothing uses it")
            for name in self.pools
            if name not in used
        ]

    def _make_relays(self) -> None:
        """Have one relay for each pool: all listeners that use it count together."""
        access = self.document.section("log").get("access")
        relays = {name: Relay(pool, access_log=access) for name, pool in self.pools.items()}
        for name, relay in self._relays.items():
            if name in relays:
                new = relays[name]
                relay.log, relay.requires, relay._has_looked = new.log, new.requires, False
                relays[name] = relay
        self._relays = relays

    def _services(self) -> dict[str, Service]:
        listeners = self.document.section("listeners")
        made = {
            name: self._making.service(name, table, self._relays)
            for name, table in listeners.items()
        }
        return {name: service for name, service in made.items() if service is not None}


class _Making:
    """Makes things of tables; what cannot be is noted in the document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def limits(self) -> Limits | None:
        given = self._document.section("server").get("limits", {})
        return self._made(("server", "limits"), lambda: Limits(**given))

    def pool(self, name: str, table: Mapping[str, Any]) -> Pool | None:
        document, path = self._document, ("pools", name)
        if document.is_wrong(*path):
            return None
        upstreams = [
            self._made((*path, "upstreams", number), functools.partial(Upstream, **each))
            for number, each in enumerate(table["upstreams"])
        ]
        settings = {key: value for key, value in table.items() if key != "upstreams"}
        if "check" in settings:
            settings["check"] = self._made((*path, "check"), lambda: Check(**table["check"]))
        if document.is_wrong(*path):
            return None
        return self._made(path, lambda: Pool(*filter(None, upstreams), **settings))

    def service(
        self, name: str, table: Mapping[str, Any], relays: Mapping[str, Relay]
    ) -> Service | None:
        """Return the service of a listener."""
        path = ("listeners", name)
        if self._document.is_wrong(*path):
            return None
        if "pool" not in table:
            self._document.wrong(path, "pool is missing: who gets its clients?")
            return None
        service: Service | None = relays.get(table["pool"])
        if "accept_proxy" in table:
            settings = {key: table[its] for key, its in _BEHIND.items() if its in table}
            return self._made(path, lambda: BehindProxy(service, **settings), _BEHIND)
        if "proxy_timeout" in table:
            what = "says how long a PROXY header may take: give accept_proxy, too"
            self._document.wrong((*path, "proxy_timeout"), what)
        return service

    def check(self) -> None:
        """Note what contradicts something elsewhere in the file."""
        document = self._document
        listeners = document.section("listeners")
        whose: dict[Address, str] = {}
        for name, table in listeners.items():
            path = ("listeners", name)
            places = table.get("address", [])
            if document.is_wrong(*path):
                continue
            for where in places:
                if whose.setdefault(where, name) != name or places.count(where) > 1:
                    what = f"{where} is given twice: each is listened on once"
                    document.wrong((*path, "address"), what)
            if "socket_mode" in table and not any(map(_is_file, places)):
                what = (
                    "is for unix:PATH, of which there is none here (a .socket unit has SocketMode=)"
                )
                document.wrong((*path, "socket_mode"), what)
        for name, table in document.section("pools").items():
            if document.is_wrong("pools", name):
                continue
            for number, each in enumerate(table["upstreams"]):
                if is_own(each["address"], list(whose)):
                    what = (
                        f"upstream {each['address']} is a listener here: each client would be "
                        "joined with the relay itself, again and again; name another upstream"
                    )
                    document.wrong(("pools", name, "upstreams", number), what)

    def _made(
        self, path: tuple[str | int, ...], make: Callable[[], T], names: Mapping[str, str] = {}
    ) -> T | None:
        if self._document.is_wrong(*path):
            return None
        try:
            return make()
        except (TypeError, ValueError) as exc:
            self._document.wrong_with(path, exc, names)
            return None


def _is_file(where: Address) -> bool:
    return bool(where.path) and not where.path.startswith("@")


def _with_rights(where: Address, mode: int | None, owner: tuple[int, int] | None) -> Address:
    """Return an address with the rights of the file that it makes, if it makes one."""
    return replace(where, mode=mode, owner=owner) if _is_file(where) else where


def _entrance(served: Served, name: str) -> Entrance:
    return served.entrances[name]
