"""A ``stream`` block as the file of ``muxcore relay``.

What answers by itself in a test's configuration (``return``, TLS that ends there, ``http``) plays a
client or an upstream, and stays nginx's. Every server that relays is muxcore's, and a directive
that muxcore has no counterpart for is named and refuses the file.

Where nginx measures each connection and muxcore each source (``proxy_upload_rate``), that is taken:
the tests have one client at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import upstreams
from .allowing import Rules
from .conf import Directive, NoCounterpart, named, shown
from .variables import Unknown, Variables

# Times, sizes and logs that change nothing here: muxcore has no Nagle, no buffer to size, no zone
# to share (it is one process), and says by itself what is wrong.
_WITHOUT_EFFECT = {"tcp_nodelay", "proxy_buffer_size", "error_log", "map", "log_format", "upstream"}
_WITHOUT_EFFECT |= {"limit_conn_zone", "limit_conn_dry_run", "listen", "server", "geo"}
_KNOWN = _WITHOUT_EFFECT | {
    *("proxy_pass", "proxy_protocol", "proxy_timeout", "proxy_connect_timeout", "allow", "deny"),
    *("proxy_half_close", "limit_conn", "proxy_upload_rate", "proxy_download_rate", "ssl_preread"),
    *("preread_timeout", "preread_buffer_size", "access_log", "set_real_ip_from"),
    *("proxy_next_upstream", "proxy_next_upstream_tries"),
}
_OF_TLS_ENDED = ("ssl_certificate", "ssl_certificate_key")  # of the servers that stay nginx's
_PREREAD = {"$ssl_preread_server_name": "tls_name", "$ssl_preread_alpn_protocols": "alpn"}
_EVERYBODY = ["0.0.0.0/0", "::/0", "unix"]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass
class Log:
    """An ``access_log`` of a listener.

    Attributes:
        path, condition, format: texts with variables; the condition is "1" where there is none.
        variables: what is known of them.
        group: the name of the upstreams; "": it was an address.
    """

    path: str
    format: str
    condition: str
    variables: dict[str, str]
    group: str


@dataclass
class Translation:
    """What becomes of an nginx.conf.

    Attributes:
        tables: of muxcore's file; without listeners there is nothing for it.
        rest: what stays nginx's; "": nothing does.
        logs: those of each listener, by its address.
        files: the paths of all logs, also of such as nobody uses.
        targets: what nginx calls the pools.
        zones: where it counts what the limits do.
    """

    tables: dict[str, Any] = field(default_factory=dict)
    rest: str = ""
    logs: dict[str, list[Log]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    zones: dict[str, str] = field(default_factory=dict)


def translated(conf: tuple[Directive, ...]) -> Translation:
    """Return what becomes of it.

    Raises:
        NoCounterpart: a relay is to do what muxcore cannot.
    """
    found = Translation()
    streams = [each for each in conf if each.name == "stream" and each.block is not None]
    inner = [each for stream in streams for each in stream.block or ()]
    answering = [each for each in inner if each.name == "server" and _answers(each)]
    others = [each for each in inner if each.name not in ("server", "upstream")]
    relays = [each for each in named(inner, "server") if each not in answering]
    if answering or named(conf, "http"):
        stays = [each for each in conf if each.name not in ("stream", "worker_processes")]
        if answering:
            needed = [each for each in others if not each.name.startswith("proxy_")]
            block = (*needed, *named(inner, "upstream"), *answering)
            stays.append(Directive(("stream",), 0, tuple(block)))
        found.rest = shown(stays)
    stream = tuple(each for each in inner if each not in answering)
    for number, server in enumerate(relays):
        _Server(found, stream, server, number).translate()
    inside = [each for server in relays for each in server.block or ()]
    found.files = [each.args[0] for each in named((*stream, *inside), "access_log")]
    if relays:
        limits = _limits(relays, stream)
        limits["idle_timeout"] = _shared(found.tables["listeners"], "idle_timeout")
        found.tables["server"] = {"limits": limits}
    return found


def _answers(server: Directive) -> bool:
    """Whether it is a server's end, not a relay's."""
    listens = [word for each in named(server.block or (), "listen") for word in each.args]
    return bool(named(server.block or (), "return")) or "ssl" in listens or "udp" in listens


def _limits(relays: list[Directive], stream: tuple[Directive, ...]) -> dict[str, Any]:
    """Return what is of the whole server here, and must be the same in all of nginx's."""
    name, key = "proxy_half_close", "half_close_timeout"
    all_have = {_setting(name, each, stream, "off") for each in relays}
    if len(all_have) > 1:
        which = next(each for server in relays for each in named(server.block or (), name))
        raise NoCounterpart(which, f"{key} is one for all listeners")
    # QUIT waits for as long as clients stay
    return {"drain_timeout": None, key: _seconds_of(all_have.pop())}


def _shared(tables: dict[str, dict[str, Any]], key: str) -> Any:
    """Take what all tables have out of them, and return it; None: they have different ones."""
    found = {each[key] for each in tables.values()}
    if len(found) > 1:
        return None
    return {each.pop(key) for each in tables.values()}.pop()


def _seconds_of(text: str) -> float | None:
    """Return seconds; of half a close "on" is for ever, and "off" not at all."""
    if text in ("on", "off"):
        return None if text == "on" else 0.0
    number = text.rstrip("mshd")
    return float(number) * _UNITS[text.removeprefix(number) or "s"]


def _bytes_of(text: str) -> int:
    number = text.rstrip("kKmM")
    return int(number) * {"": 1, "k": 1024, "m": 1024**2}[text.removeprefix(number).lower()]


def _setting(name: str, server: Directive, stream: tuple[Directive, ...], default: str = "") -> str:
    found = named(server.block or (), name) or named(stream, name)
    return found[0].args[0] if found else default


class _Server:
    """A server that relays, on its way into the tables."""

    def __init__(
        self, found: Translation, stream: tuple[Directive, ...], server: Directive, number: int
    ) -> None:
        self._found = found
        self._stream = stream
        self._server = server
        self._own = server.block or ()
        self._number = number
        self._variables = Variables(stream, {})
        self._known: dict[str, str] = {}

    def translate(self) -> None:
        upward = [each for each in self._stream if each.name not in _OF_TLS_ENDED]
        for directive in (*self._own, *upward):
            if directive.name not in _KNOWN and directive.args != ("off",):
                raise NoCounterpart(directive)
        for number, listen in enumerate(named(self._own, "listen")):
            self._listener(f"server{self._number}-{number}", listen)

    def _listener(self, name: str, listen: Directive) -> None:
        where, *words = listen.args
        host, _, port = where.rpartition(":")
        if where.startswith("unix:"):
            host, port = where, ""
        self._known = {"server_addr": host.strip("[]"), "server_port": port}
        if "proxy_protocol" not in words:
            self._known |= {"proxy_protocol_addr": "", "proxy_protocol_port": ""}
        if self._setting("ssl_preread", "off") == "off":
            self._known |= {each.lstrip("$"): "" for each in _PREREAD}
        self._variables = Variables(self._stream, self._known)
        table: dict[str, Any] = {"address": [where]}
        table["idle_timeout"] = _seconds_of(self._setting("proxy_timeout", "10m"))
        for word in words:
            if word != "proxy_protocol":
                raise NoCounterpart(listen, word)
            table["accept_proxy"] = self._trusted()
        if guard := self._guard():
            table["limits"] = self._limits_of(guard)
        (passes,) = named(self._own, "proxy_pass")
        group = ""
        try:
            target = self._value(passes)
        except Unknown:
            table["route"] = name
            self._table("routes")[name] = self._route(passes)
        else:
            table["pool"] = self._pool(passes, target)
            group = target if self._upstream(target) else ""
        self._table("listeners")[name] = table
        self._found.logs[where] = list(self._logs(group))

    # -- what is asked of nginx's directives

    def _table(self, section: str) -> dict[str, Any]:
        tables: dict[str, Any] = self._found.tables.setdefault(section, {})
        return tables

    def _setting(self, name: str, default: str = "") -> str:
        return _setting(name, self._server, self._stream, default)

    def _all(self, *names: str) -> list[Directive]:
        """Return those that hold: the server's, or else the stream's."""
        own = [each for each in self._own if each.name in names]
        return own or [each for each in self._stream if each.name in names]

    def _value(self, directive: Directive) -> str:
        return self._variables.value(directive.args[0])

    def _trusted(self) -> list[str]:
        """Return whose PROXY headers count. Nginx takes everybody's, and knows whom it believes."""
        trusted = [each.args[0] for each in self._all("set_real_ip_from")]
        return [each.rstrip(":") for each in trusted] or _EVERYBODY

    def _limits_of(self, guard: dict[str, Any]) -> str:
        """Return the name of limits; who has the same ones, of the same zone, counts together."""
        zones, limits = self._found.zones, self._table("limits")
        zone = guard.pop("zone", "")
        for name, its in zones.items():
            if zone and its == zone and limits[name] == guard:
                return name
        name = f"limits{len(limits)}"
        limits[name], zones[name] = guard, zone
        return name

    def _guard(self) -> dict[str, Any]:
        """Return who may come, how many and how fast; ``zone`` is where the first is counted."""
        rules = Rules()
        for each in self._all("allow", "deny"):
            if not rules.add(each.name, each.args[0]):
                raise NoCounterpart(each, "deny wins, whatever the order")
        guard: dict[str, Any] = rules.table()
        for each in self._all("limit_conn"):
            if "source_connections" in guard:
                raise NoCounterpart(each, "a listener has one of its limits")
            guard["zone"] = self._zone(each)
            guard["source_connections"] = int(each.args[1])
        for name, key in (("upload", "source_bytes_up"), ("download", "source_bytes_down")):
            rates = self._all(f"proxy_{name}_rate")
            if rates and (rate := _bytes_of(self._value(rates[0]))):
                guard[key] = rate
        if self._setting("limit_conn_dry_run", "off") == "on":
            guard.pop("source_connections", None)
        return guard if guard.keys() - {"zone"} else {}

    def _zone(self, limit: Directive) -> str:
        """Return what a zone counts: its sources, and what more is in its key."""
        keys = {e.args[1]: e.args[0] for e in named(self._stream, "limit_conn_zone")}
        key = next(its for its in keys if its.startswith(f"zone={limit.args[0]}:"))
        variables = Variables(self._stream, {**self._known, "binary_remote_addr": "source"})
        try:
            return f"{limit.args[0]} {variables.value(keys[key])}"
        except Unknown as exc:
            raise NoCounterpart(limit, f"it counts by {keys[key]}") from exc

    # -- where they go

    def _upstream(self, name: str) -> Directive | None:
        return next((e for e in named(self._stream, "upstream") if e.args[0] == name), None)

    def _pool(self, passes: Directive, target: str) -> str:
        """Return the name of a pool; listeners that want the same of one share it."""
        group = self._upstream(target)
        pool: dict[str, Any] = {}
        if group is not None:
            pool = upstreams.pool_of(group, self._variables)
        else:
            pool["upstreams"] = [upstreams.at(passes, target)]
        pool["connect_timeout"] = _seconds_of(self._setting("proxy_connect_timeout", "60s"))
        if self._setting("proxy_protocol", "off") == "on":
            pool["send_proxy"] = "v1"
        pool["tries"] = self._tries(len(pool["upstreams"]))
        pools, targets = self._table("pools"), self._found.targets
        for name, its in targets.items():
            if its == target and pools[name] == pool:
                return name
        name = f"pool{len(pools)}"
        pools[name], targets[name] = pool, target
        return name

    def _tries(self, most: int) -> int:
        """Return how many upstreams a client is given."""
        if self._setting("proxy_next_upstream", "on") == "off":
            return 1
        return int(self._setting("proxy_next_upstream_tries", "0")) or most

    def _route(self, passes: Directive) -> dict[str, Any]:
        """Return the rules of a map of what TLS says first."""
        its = self._variables.map_of(passes.args[0])
        key = _PREREAD.get(its.args[0]) if its is not None else None
        if its is None or key is None:
            raise NoCounterpart(passes, "its variables are known only once somebody is there")
        route: dict[str, Any] = {"rules": []}
        for each in its.block or ():
            if each.name not in ("", "default"):
                pool = self._pool(each, self._value(each))
                route["rules"].append({key: [each.name], "pool": pool})
            elif each.args[0] == its.args[0]:  # the name is the upstream's
                for group in named(self._stream, "upstream"):
                    pool = self._pool(passes, group.args[0])
                    route["rules"].append({key: [group.args[0]], "pool": pool})
            else:
                pool = self._pool(each, self._value(each))
                if route.setdefault("default", pool) != pool:
                    raise NoCounterpart(each, "who has no name has the default")
        if wait := self._setting("preread_timeout"):
            route["first_bytes"] = _seconds_of(wait)
        if most := self._setting("preread_buffer_size"):
            route["max_bytes"] = _bytes_of(most)
        return route

    def _logs(self, group: str) -> Iterator[Log]:
        formats = {e.args[0]: "".join(e.args[1:]) for e in named(self._stream, "log_format")}
        for each in self._all("access_log"):
            if each.args == ("off",):
                return
            path, format_, *words = each.args
            conditions = [word.partition("=")[2] for word in words if word.startswith("if=")]
            condition = self._variables.value(conditions[0]) if conditions else "1"
            yield Log(path, formats[format_], condition, dict(self._known), group)
