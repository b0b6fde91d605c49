"""What a guard is told to allow: checked, and shared out over workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from muxcore.pool.pace import Pace, checked_rate
from muxcore.pool.sharing import even
from muxcore.pool.speeds import checked_speed, refill
from muxcore.pool.upstream import checked_count
from muxcore.services.networks import Networks

_MOST = 2**31 - 1
_ENDS = ("close", "reset")


@dataclass(frozen=True, slots=True)
class Rules:
    """See ``Guard``."""

    allow: Networks | None  # None: everybody
    deny: Networks | None  # None: nobody
    connections: int | None
    rate: Pace | None
    source_connections: int | None
    source_rate: Pace | None
    bytes_up: float | None
    bytes_down: float | None
    source_bytes_up: float | None
    source_bytes_down: float | None
    sources: int
    resets: bool
    refill: float  # seconds until a source's bytes are as if it had moved none

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
        bytes_up: float | None,
        bytes_down: float | None,
        source_bytes_up: float | None,
        source_bytes_down: float | None,
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
            Networks("Guard", "allow", allow) or None,
            Networks("Guard", "deny", deny) or None,
            _cap("connections", connections),
            checked_rate("Guard", "rate", rate),
            _cap("source_connections", source_connections),
            checked_rate("Guard", "source_rate", source_rate),
            checked_speed("Guard", "bytes_up", bytes_up),
            checked_speed("Guard", "bytes_down", bytes_down),
            checked_speed("Guard", "source_bytes_up", source_bytes_up),
            checked_speed("Guard", "source_bytes_down", source_bytes_down),
            checked_count("Guard", "sources", sources, _MOST),
            refuse == "reset",
            max(refill(source_bytes_up), refill(source_bytes_down)),
        )

    @property
    def know_sources(self) -> bool:
        """Whether it matters who comes how often, or sends how much."""
        limits = self.source_connections, self.source_rate
        return any(each is not None for each in (*limits, *self.source_bytes))

    @property
    def source_bytes(self) -> tuple[float | None, float | None]:
        """Bytes a second of each source, up and down."""
        return self.source_bytes_up, self.source_bytes_down

    @property
    def requires(self) -> frozenset[str]:
        """What they require of an engine."""
        speeds = self.bytes_up, self.bytes_down, *self.source_bytes
        rates = {"rates"} if any(each is not None for each in speeds) else set()
        counts = self.know_sources or self.connections is not None or self.rate is not None
        return frozenset(rates | ({"shared_state"} if counts or rates else set()))


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
        shared["connections"] = even(most, (number, count))
    for name in ("rate", "bytes_up", "bytes_down"):
        if given.get(name) is not None:
            shared[name] = given[name] / count
    return shared


def _cap(name: str, value: Any) -> int | None:
    return None if value is None else checked_count("Guard", name, value, _MOST)
