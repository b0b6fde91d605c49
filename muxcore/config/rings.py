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


def entrances(document: Document) -> dict[str, set[str]]:
    """Return the names of the listeners by which clients may come to each pool.

    Args:
        document: the file; what is wrong in it is left out.
    """
    listeners, pools = (_good(document, section) for section in ("listeners", "pools"))
    goes_to = {name: _pools_of(document, its) & pools.keys() for name, its in listeners.items()}
    found = {pool: {name for name, its in goes_to.items() if pool in its} for pool in pools}
    chained = [
        (pool, next_)
        for pool, table in pools.items()
        for name in _upstreams_here(table, listeners)
        for next_ in goes_to[name]
    ]
    for _ in pools:  # no way is longer
        for pool, next_ in chained:
            found[next_] |= found[pool]
    return found


def apart(document: Document) -> dict[str, tuple[Address, ...]]:
    """Return the addresses of the listeners by which no client comes to a pool, for each."""
    listeners = document.section("listeners").items()
    return {
        pool: tuple(where for name, its in listeners if name not in by for where in its["address"])
        for pool, by in entrances(document).items()
    }


def _good(document: Document, section: str) -> dict[str, Mapping[str, Any]]:
    tables = document.section(section)
    return {name: its for name, its in tables.items() if not document.is_wrong(section, name)}


def _pools_of(document: Document, listener: Mapping[str, Any]) -> set[str]:
    """Return the pools that have the clients of a listener, or may have them."""
    route = document.section("routes").get(listener.get("route", ""))
    if route is None:
        return {listener["pool"]} if "pool" in listener else set()
    if "decide" in route:
        return set(document.section("pools"))
    return {*(rule.get("pool") for rule in route.get("rules", ())), route.get("default")}


def _upstreams_here(
    pool: Mapping[str, Any], listeners: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the listeners that are upstreams of a pool."""
    for each in pool["upstreams"]:
        for name, its in listeners.items():
            if is_own(each["address"], its["address"]):
                yield name
