"""Who hears of a connection's end beside its protocol, and says how fast it may be.

A protocol may be another's by then, a verb's, or nobody's; a witness is told all the same. Those
who have none pay nothing: an engine has them in a table.
"""

from __future__ import annotations

from typing import Any

from muxcore.protocol import AnyProtocol
from muxcore.rate import Rate


def add(witnesses: dict[Any, Any], transport: Any, witness: AnyProtocol) -> None:
    """Have somebody told of a connection's end, after those who are already.

    Args:
        witnesses: the engine's.
        transport: the connection.
        witness: its ``connection_lost(exc)`` is called.
    """
    before = witnesses.get(transport)
    witnesses[transport] = witness if before is None else _Both(before, witness)


def has_rates(witness: AnyProtocol) -> bool:
    """Return whether one says how fast its connection may be."""
    return bool(_rates(witness, "up") or _rates(witness, "down"))


def limit(witnesses: dict[Any, Any], transport: Any, peer: Any = None) -> None:
    """Let what a connection receives count against what its witnesses, and its peer's, say.

    Args:
        witnesses: the engine's.
        transport: the connection; its witnesses' ``up`` are rates, if they have them.
        peer: who is sent what it receives; of its witnesses it is ``down``.
    """
    rates = *_rates(witnesses.get(transport), "up"), *_rates(witnesses.get(peer), "down")
    if rates:
        transport.limit(*rates)


def _rates(witness: AnyProtocol, name: str) -> tuple[Rate, ...]:
    return getattr(witness, name, ())


class _Both:
    """Two witnesses as one."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: AnyProtocol, second: AnyProtocol) -> None:
        self._first = first
        self._second = second

    def connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._first.connection_lost(exc)
        finally:
            self._second.connection_lost(exc)

    @property
    def up(self) -> tuple[Rate, ...]:
        return _rates(self._first, "up") + _rates(self._second, "up")

    @property
    def down(self) -> tuple[Rate, ...]:
        return _rates(self._first, "down") + _rates(self._second, "down")
