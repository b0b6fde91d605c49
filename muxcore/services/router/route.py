"""One rule of a router: who matches it goes to its pool."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from muxcore.pool import Pool

if TYPE_CHECKING:
    from muxcore.services.router.heard import Heard

_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class Route:
    """A rule: all that is given must match. One of which nothing is given matches everybody.

    Args:
        pool: where who matches goes.
        tls_name: names that a TLS client may ask for, whatever their case; ``"*.example.com"`` is
            for all that have one label more, as in certificates, so not for ``example.com`` and not
            for ``a.b.example.com``. Internationalised ones are in A-labels (``xn--…``).
        alpn: protocols of which a TLS client offers one, such as ``"h2"``.
        starts_with: beginnings of which the first bytes have one.
        protocol: what the first bytes look like: "tls", "ssh", "http", "http2", "proxy",
            "postgres" or "unknown"; see ``muxcore.parsers.protocol_of``.

    Each of these is one, or several of which one is enough.

    Raises:
        TypeError: the pool is none, or something is no text, or no bytes.
        ValueError: there is no such protocol, or a name is none.
    """

    __slots__ = ("alpn", "pool", "protocol", "starts_with", "tls_name")

    def __init__(
        self,
        pool: Pool,
        *,
        tls_name: str | Iterable[str] = (),
        alpn: str | Iterable[str] = (),
        starts_with: bytes | Iterable[bytes] = (),
        protocol: str | Iterable[str] = (),
    ) -> None:
        if not isinstance(pool, Pool):
            raise TypeError(f"Route({pool!r}): give a Pool, such as Pool('db1:5432')")
        self.pool = pool
        self.tls_name = frozenset(_checked_name(each) for each in _several("tls_name", tls_name))
        self.alpn = frozenset(_several("alpn", alpn))
        self.starts_with = tuple(_several("starts_with", starts_with, bytes))
        self.protocol = frozenset(_several("protocol", protocol))
        self._check_protocols()

    def _check_protocols(self) -> None:
        if self.protocol:
            from muxcore.parsers.guess import Protocol

            there_are = get_args(Protocol)
            for each in self.protocol.difference(there_are):
                raise ValueError(
                    f"Route(protocol={each!r}): protocol must be one of {', '.join(there_are)}"
                )

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in self.__slots__ if name != "pool"}
        told = [f"{name}={sorted(value)!r}" for name, value in given.items() if value]
        return f"Route({', '.join([repr(self.pool), *told])})"

    def _to(self, pool: Pool) -> Route:
        """Return the same rule with another pool."""
        other = copy.copy(self)
        other.pool = pool
        return other

    def _matches(self, heard: Heard) -> bool | None:
        """Return whether a client matches; None: that depends on bytes that are yet to come."""
        unknown = False
        for answer in self._answers(heard):
            if answer is False:
                return False
            unknown = unknown or answer is None
        return None if unknown else True

    def _answers(self, heard: Heard) -> Iterable[bool | None]:
        if self.starts_with:
            yield heard.starts_with(self.starts_with)
        if self.protocol:
            yield heard.speaks(self.protocol)
        if self.tls_name:
            names = heard.names()
            yield None if names is None else not self.tls_name.isdisjoint(names)
        if self.alpn:
            yield heard.offers(self.alpn)


def _several(name: str, value: Any, kind: type = str) -> tuple[Any, ...]:
    """Return one, or several, as several.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is empty, and would match everybody.
    """
    found = (value,) if isinstance(value, str | bytes) else tuple(value)
    for each in found:
        if not isinstance(each, kind):
            raise TypeError(f"Route({name}={each!r}): {name} needs {kind.__name__}")
        if not each:
            raise ValueError(f"Route({name}={each!r}): it is empty; leave {name} out for everybody")
    return found


def _checked_name(name: str) -> str:
    text = name.lower().removesuffix(".")
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"Route(tls_name={name!r}): no TLS client can ask for that: a name is letters, digits, "
            "'-' and '_' between dots, or such a name behind '*.'; others are in A-labels (xn--…)"
        )
    return text
