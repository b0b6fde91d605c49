"""The relays and pools of a server, wherever they are in its service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muxcore.pool import Pool


def services(service: Any) -> list[Any]:
    """Return a service and all that are in it: what it wraps, and what it chooses from.

    Those that it has left with their clients, ``services_gone``, come last: a pool that there is
    again is the one of its name.
    """
    found: list[Any] = []
    left, last = [service], list[Any]()
    while left or last:
        one = (left or last).pop(0)
        if one is None or any(one is each for each in found):
            continue
        found.append(one)
        if isinstance(one, type):  # a class of protocols has nothing in it
            continue
        left += [getattr(one, "service", None), *_each(getattr(one, "services", ()))]
        last += _each(getattr(one, "services_gone", ()))
        if isinstance(one, Mapping):
            left += one.values()
    return found


def relays(service: Any) -> list[Any]:
    """Return those services that keep their clients once they are asked to."""
    return [each for each in services(service) if callable(getattr(each, "follow", None))]


def pools(service: Any) -> dict[str, Pool]:
    """Return the pools by their names; one without a name has its number, from 1 on.

    Where two have the same name, the second has its number behind it.
    """
    found: list[Pool] = []
    for each in services(service):
        own = [getattr(each, "pool", None), *_each(getattr(each, "pools", ()))]
        found += [one for one in own if isinstance(one, Pool) and one not in found]
    named: dict[str, Pool] = {}
    for number, pool in enumerate(found, 1):
        name = pool.name or str(number)
        named[name if name not in named else f"{name}-{number}"] = pool
    return named


def _each(many: Any) -> Iterator[Any]:
    if isinstance(many, Mapping):
        many = many.values()
    return iter(many) if isinstance(many, tuple | list) or hasattr(many, "__iter__") else iter(())
