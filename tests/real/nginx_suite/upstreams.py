"""An ``upstream`` block as a pool.

``random`` is "two-random", which is ``random two least_conn``. Where a server is there twice it is
one upstream that takes what both may. How often one may fail, and how long it rests then, is no
setting of muxcore's: ``max_fails`` and ``fail_timeout`` are left out.
"""

from __future__ import annotations

from typing import Any

from .conf import Directive, NoCounterpart
from .variables import Unknown, Variables

_POLICIES = {"least_conn": "least-connections", "random": "two-random"}


def pool_of(group: Directive, variables: Variables) -> dict[str, Any]:
    """Return the table of a pool.

    Raises:
        NoCounterpart: muxcore has no such pool.
    """
    pool: dict[str, Any] = {"upstreams": []}
    for each in group.block or ():
        if each.name == "server":
            _join(pool["upstreams"], _upstream(each))
        elif each.name in _POLICIES:
            pool["policy"] = _POLICIES[each.name]
        elif each.name == "hash":
            pool["policy"] = _policy_of(each, variables)
        elif each.name != "zone":  # it is one process that knows it all
            raise NoCounterpart(each)
    return pool


def at(directive: Directive, address: str) -> dict[str, Any]:
    """Return the table of an upstream at an address that a directive names."""
    if ":" not in address:
        raise NoCounterpart(directive, f"{address} has no port")
    return {"address": address}


def _policy_of(hash_: Directive, variables: Variables) -> str:
    """Return what chooses by the client's address; by an empty key nginx has them take turns."""
    try:
        if variables.value(hash_.args[0]) == "":
            return "round-robin"
    except Unknown as exc:
        if exc.args == ("remote_addr",):
            return "source"
    raise NoCounterpart(hash_)


def _upstream(server: Directive) -> dict[str, Any]:
    upstream = at(server, server.args[0])
    for word in server.args[1:]:
        match word.split("="):
            case ["down"]:
                upstream["out"] = True
            case ["backup"]:
                upstream["backup"] = True
            case ["weight", number]:
                upstream["weight"] = int(number)
            case ["max_conns", number]:
                if number != "0":
                    upstream["max_active"] = int(number)
            case ["max_fails" | "fail_timeout", _]:
                pass
            case _:
                raise NoCounterpart(server, word)
    return upstream


def _join(upstreams: list[dict[str, Any]], new: dict[str, Any]) -> None:
    same = next((each for each in upstreams if each["address"] == new["address"]), None)
    if same is None:
        upstreams.append(new)
    elif same.get("out"):
        if not new.get("out"):
            upstreams[upstreams.index(same)] = new
    elif not (new.get("out") or new.get("backup")):
        same["weight"] = same.get("weight", 1) + new.get("weight", 1)
        both = [each.pop("max_active", None) for each in (same, new)]
        if None not in both:
            same["max_active"] = sum(both)
