"""Tables become pools, guards and routers; what cannot be is noted in the document."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from muxcore._imported import imported
from muxcore.address import Address, is_file
from muxcore.config.document import Document
from muxcore.config.lines import Path
from muxcore.config.rings import Chains
from muxcore.errors import MuxcoreError
from muxcore.limits import Limits
from muxcore.pool import Check, Pool, Upstream
from muxcore.protocol import Service
from muxcore.services.behind_proxy import BehindProxy
from muxcore.services.guard import Guard
from muxcore.services.idle import Idle
from muxcore.services.relay.access_log import AccessLog
from muxcore.services.router import Route, Router

T = TypeVar("T")

_REFUSE = "refuse"  # in place of a pool
_BEHIND = {"trusted": "accept_proxy", "timeout": "proxy_timeout"}  # arguments that are other keys


class Making:
    """Makes things of tables; what cannot be is noted in the document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def limits(self) -> Limits | None:
        given = self._document.section("server").get("limits", {})
        return self._made(("server", "limits"), Limits, given)

    def access_log(self) -> AccessLog | None:
        """Return what becomes of each connection's record; None: nothing."""
        table = self._document.section("log")
        settings = {key: its for key, its in table.items() if key in ("fields", "start")}
        if not settings and not table.keys() & {"access", "access_file"}:
            return None
        make = functools.partial(AccessLog, table.get("access") or "text")
        return self._made(("log",), make, settings)

    def pool(self, name: str, table: Mapping[str, Any]) -> Pool | None:
        path = ("pools", name)
        settings = {key: value for key, value in table.items() if key != "upstreams"}
        if "check" in settings:
            check = {key: its for key, its in table["check"].items() if its is not None}  # wrong
            settings["check"] = self._made((*path, "check"), Check, check)
        upstreams = [
            self._upstream((*path, "upstreams", number), **each)
            for number, each in enumerate(table.get("upstreams") or ())
        ]
        if not any(upstreams):  # why is told
            return None
        make = functools.partial(Pool, *filter(None, upstreams), name=name)
        return self._made(path, make, settings)

    def _upstream(self, path: Path, address: Any = None, **settings: Any) -> Upstream | None:
        if address is None:  # why is told
            return None
        return self._made(path, functools.partial(Upstream, address), settings)

    def guard(self, name: str, table: Mapping[str, Any]) -> Guard | None:
        """Return a guard, around nothing yet."""
        made = self._made(("limits", name), functools.partial(Guard, None), table)
        if made is not None:
            made._name = made._door.name = f"limits.{name}"
        return made

    def _plan(
        self, path: Path, table: Mapping[str, Any], pools: Mapping[str, Pool]
    ) -> tuple[list[Route], dict[str, Any]]:
        """Return the routes of a router, and what is for everybody else."""
        document, routes = self._document, []
        for number, rule in enumerate(table.get("rules", ())):
            rest = {key: value for key, value in rule.items() if key != "pool"}
            if (pool := pools.get(rule["pool"])) is not None:
                make = functools.partial(Route, pool, **rest)
                routes.append(self._made((*path, "rules", number), make))
        settings: dict[str, Any] = {}
        default = table.get("default", _REFUSE)
        if default != _REFUSE:
            settings["default"] = pools.get(default)
        if "decide" in table:
            settings |= {"decide": self._decision(path, table["decide"]), "pools": pools}
            if "default" in table:
                what = "says the same as decide, which has the last word: leave one of them out"
                document.wrong((*path, "default"), what)
        return [each for each in routes if each is not None], settings

    def router(
        self, pools: Mapping[str, Pool], access_log: Any, name: str, table: Mapping[str, Any]
    ) -> Router | None:
        path = ("routes", name)
        if self._document.is_wrong(*path):
            return None
        named = {table.get("default"), *(rule.get("pool") for rule in table.get("rules", ()))}
        if named & (self._document.section("pools").keys() - pools.keys()):
            return None  # what is wrong with that pool was told
        routes, settings = self._plan(path, table, pools)
        if self._document.is_wrong(*path):
            return None
        rest = {key: its for key, its in table.items() if key not in ("rules", "default", "decide")}
        if not (routes or settings):
            what = "sends nobody anywhere: give rules, a default or decide"
            self._document.wrong(path, what)
            return None
        make = functools.partial(Router, *routes, **settings, access_log=access_log)
        if (made := self._made(path, make, rest)) is not None:
            made._name = f"routes.{name}"
        return made

    def _decision(self, path: Path, name: str) -> Any:
        try:
            found = imported("decide", name)
        except MuxcoreError as exc:
            self._document.wrong((*path, "decide"), str(exc).removeprefix("decide "))
            return None
        if not callable(found):
            self._document.wrong((*path, "decide"), f"{name!r} cannot be called")
            return None
        try:
            inspect.signature(found).bind(None)
        except TypeError as exc:
            what = f"{name!r} cannot be called with one argument, a muxcore.First: {exc}"
            self._document.wrong((*path, "decide"), what)
        except ValueError:  # one of C's may have no signature
            pass
        return found

    def service(
        self,
        within: Mapping[str, Mapping[str, Service]],
        guards: Mapping[str, Guard],
        name: str,
        table: Mapping[str, Any],
    ) -> Service | None:
        """Return the service of a listener.

        Args:
            within: the services of pools and of routes, by their names.
            guards: those of limits.
            name: the listener's.
            table: it.
        """
        path = ("listeners", name)
        if self._document.is_wrong(*path):
            return None
        kinds = [kind for kind in within if kind in table]
        if len(kinds) != 1:
            what = "pool or route is missing" if not kinds else "has pool and route: give one"
            self._document.wrong(path, f"{what}: who gets its clients?")
            return None
        service = within[kinds[0]].get(table[kinds[0]])
        if service is None:  # that is told already
            return None
        if "idle_timeout" in table:
            idle = functools.partial(Idle, service, timeout=table["idle_timeout"])
            service = self._made(path, idle, names={"timeout": "idle_timeout"})
        if (guard := guards.get(table.get("limits", ""))) is not None:
            service = guard.around(service)
        if "accept_proxy" in table:
            settings = {key: table[its] for key, its in _BEHIND.items() if its in table}
            make = functools.partial(BehindProxy, service, **settings)
            behind = self._made(path, make, names=_BEHIND)
            if behind is not None:
                behind._name = f"listeners.{name}"
            service = behind
        for key in ("proxy_timeout", "proxy_limits"):
            if key in table and "accept_proxy" not in table:
                what = "is about those who send PROXY headers: give accept_proxy, too"
                self._document.wrong((*path, key), what)
        if (guard := guards.get(table.get("proxy_limits", ""))) is not None:
            service = guard.around(service)
        return service

    def check(self, chains: Chains) -> None:
        """Note what contradicts something elsewhere in the file.

        Args:
            chains: which listeners lead to which pools.
        """
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
            longest = document.section("server").get("limits", {}).get("idle_timeout")
            if longest is not None and table.get("idle_timeout", -math.inf) >= longest:
                what = f"must be below the {longest:g} s of server.limits, which are for all"
                document.wrong((*path, "idle_timeout"), what)
            if "socket_mode" in table and not any(map(is_file, places)):
                what = (
                    "is for unix:PATH, of which there is none here (a .socket unit has SocketMode=)"
                )
                document.wrong((*path, "socket_mode"), what)
        self._check_admin(chains, whose)
        if _REFUSE in document.section("pools"):
            what = f"a default of {_REFUSE!r} means no pool: give this one another name"
            document.wrong(("pools", _REFUSE), what)
        for name, number in chains.rings():
            upstream = document.section("pools")[name]["upstreams"][number]["address"]
            what = (
                f"upstream {upstream} is a listener here: each client would be "
                "joined with the relay itself, again and again; name another upstream"
            )
            document.wrong(("pools", name, "upstreams", number), what)

    def _is_unclear(self) -> bool:
        """Return whether it is not said well who gets whose clients."""
        return self._document.is_wrong("listeners") or self._document.is_wrong("routes")

    def _check_admin(self, chains: Chains, whose: Mapping[Address, str]) -> None:
        document, table = self._document, self._document.section("admin")
        socket = table.get("socket")
        if socket is not None and not socket.path:
            what = "must be the path of a unix socket, such as unix:/run/relay.admin"
            document.wrong(("admin", "socket"), f"{what}: whoever can connect can kill and change")
        for key in ("socket", "metrics", "agent"):
            where = table.get(key)
            if where is not None and where in whose and where.port != 0:
                what = f"{where} is that of [listeners.{whose[where]}]: each is listened on once"
                document.wrong(("admin", key), what)
        for name in table.get("ready_needs", ()):
            if not (chains.entrances.get(name, True) or self._is_unclear()):
                what = f"no listener leads to pool {name}: it would never be ready"
                document.wrong(("admin", "ready_needs"), what)
        if "ready_needs" in table and table.keys().isdisjoint(("socket", "metrics")):
            what = "is about /readyz: give metrics or socket, where it is answered"
            document.wrong(("admin", "ready_needs"), what)

    def _made(
        self,
        path: Path,
        make: Callable[..., T],
        settings: Mapping[str, Any] = {},
        names: Mapping[str, str] = {},
    ) -> T | None:
        """Return what is made of a table; None: it is wrong, and all that is was noted.

        Args:
            path: the table's.
            make: what makes it.
            settings: its arguments that may be left out: so what is wrong hides no other mistake.
            names: of arguments that are other keys.
        """
        document = self._document
        given = {key: its for key, its in settings.items() if not document.is_wrong(*path, key)}
        while True:
            try:
                made = make(**given)
            except (TypeError, ValueError) as exc:
                argument = document.wrong_with(path, exc, names)
                if argument not in given:
                    return None
                del given[argument]
            else:
                return None if document.is_wrong(*path) else made
