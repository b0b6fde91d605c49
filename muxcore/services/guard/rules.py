"""What a guard is told to allow: checked, and shared out over workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from muxcore.pool.pace import Pace, checked_rate
from muxcore.pool.upstream import checked_count
from muxcore.services.networks import Networks

_MOST = 2**31 - 1
_ENDS = ("close", "reset")


@dataclass(frozen=True, slots=True)
class Rules:
    """See ``Guard``."""

    allow: Networks
    deny: Networks
    connections: int | None
    rate: Pace | None
    source_connections: int | None
    source_rate: Pace | None
    sources: int
    resets: bool

    @classmethod
    def of(
        cls,
        *,
        allow: Iterable[str],
        deny: Iterable[str],
        connections: int | None,
        rate: float | None,
        source_connections: int | None,
        source_rate: float | None,
        sources: int,
        refuse: str,
    ) -> Self:
        """Return the rules of a guard.

        Raises:
            TypeError, ValueError: see ``Guard``.
        """
        if refuse not in _ENDS:
            raise ValueError(
                f"Guard(refuse={refuse!r}): refuse must be 'close' or 'reset', not {refuse!r}"
            )
        return cls(
            Networks("Guard", "allow", allow),
            Networks("Guard", "deny", deny),
            _cap("connections", connections),
            checked_rate("Guard", "rate", rate),
            _cap("source_connections", source_connections),
            checked_rate("Guard", "source_rate", source_rate),
            checked_count("Guard", "sources", sources, _MOST),
            refuse == "reset",
        )

    @property
    def know_sources(self) -> bool:
        """Whether it matters who comes how often."""
        return self.source_connections is not None or self.source_rate is not None

    @property
    def count(self) -> bool:
        """Whether it matters how many come."""
        return self.know_sources or self.connections is not None or self.rate is not None


def share(given: dict[str, Any], number: int, count: int) -> dict[str, Any]:
    """Return what one of several workers allows: an even share of what all of them do.

    What one source may do stays: its connections come to the workers by chance, and with a share
    each it would be refused by chance.

    Args:
        given: the settings of all.
        number: of the worker, from 1 on.
        count: of workers.
    """
    shared = dict(given)
    if (most := given.get("connections")) is not None:
        shared["connections"] = max(1, most // count + (number <= most % count))
    if (rate := given.get("rate")) is not None:
        shared["rate"] = rate / count
    return shared


def _cap(name: str, value: Any) -> int | None:
    return None if value is None else checked_count("Guard", name, value, _MOST)
