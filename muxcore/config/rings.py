"""By which listeners the clients of a pool come: also by one whose upstream is another one here.

A listener may be the upstream of another. Where that leads back, each client would be joined with
the relay again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muxcore.address import Address
from muxcore.config.document import Document
from muxcore.services.relay.own import is_own


class Chains:
    """Which listeners lead to which pools.

    Args:
        document: the file; what is wrong in it is left out.

    Attributes:
        entrances: the names of the listeners by which clients may come to each pool.
    """

    def __init__(self, document: Document) -> None:
        self._listeners = _good(document, "listeners")
        pools = _good(document, "pools")
        goes_to = {
            name: _pools_of(document, its) & pools.keys() for name, its in self._listeners.items()
        }
        self.entrances = {pool: {n for n, its in goes_to.items() if pool in its} for pool in pools}
        self._links = list(self._found(pools))
        nexts = {(pool, next_) for pool, _, name in self._links for next_ in goes_to[name]}
        for _ in range(len(pools) if nexts else 0):  # no way is longer
            for pool, next_ in nexts:
                self.entrances[next_] |= self.entrances[pool]

    def rings(self) -> Iterator[tuple[str, int]]:
        """Yield (pool, number) of each upstream that leads back to where its clients come from."""
        led = ((pool, number) for pool, number, by in self._links if by in self.entrances[pool])
        yield from dict.fromkeys(led)

    def apart(self, pool: str) -> tuple[Address, ...]:
        """Return the addresses of the listeners by which no client comes to a pool."""
        by = self.entrances[pool]
        others = (its for name, its in self._listeners.items() if name not in by)
        return tuple(where for its in others for where in its["address"])

    def _found(self, pools: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int, str]]:
        """Yield (pool, number, listener) of each upstream that is a listener here."""
        ports: dict[int, list[tuple[str, Address]]] = {}  # of thousands few have one of these
        for name, table in self._listeners.items():
            for where in table["address"]:
                ports.setdefault(where.port, []).append((name, where))
        for pool, table in pools.items():
            for number, each in enumerate(table["upstreams"]):
                for name, where in ports.get(each["address"].port, ()):
                    if is_own(each["address"], [where]):
                        yield pool, number, name


def _good(document: Document, section: str) -> dict[str, Mapping[str, Any]]:
    tables = document.section(section)
    return {name: its for name, its in tables.items() if not document.is_wrong(section, name)}


def _pools_of(document: Document, listener: Mapping[str, Any]) -> set[Any]:
    """Return the pools that have the clients of a listener, or may have them."""
    route = document.section("routes").get(listener.get("route", ""))
    if route is None:
        return {listener.get("pool")}
    if "decide" in route:
        return set(document.section("pools"))
    return {*(rule.get("pool") for rule in route.get("rules", ())), route.get("default")}
