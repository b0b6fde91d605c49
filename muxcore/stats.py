"""Counters of a running server."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Stats:
    """A snapshot of what a server has done since it was created.

    Attributes:
        open: connections open now, of those accepted or adopted.
        total: connections ever accepted or adopted.
        outgoing: connections that we opened: open now, or on their way.
        bytes_in: bytes received, over all connections, closed ones included.
        bytes_out: bytes the kernel accepted for sending.
        errors: how often each kind of failure ended a connection or hindered a listener, by the
            name of the exception's class (``"ConnectionResetError"``) or of the call
            (``"accept"``).
    """

    open: int = 0
    total: int = 0
    outgoing: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain numbers and dictionaries, for ``json.dumps`` and the like.

        ``dataclasses.asdict`` would not do: it counts a ``Counter``'s items anew.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"errors": dict(self.errors)}

    def add(self, other: Stats) -> None:
        """Add what another server, or a worker, has counted."""
        self.open += other.open
        self.total += other.total
        self.outgoing += other.outgoing
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.errors.update(other.errors)

    def snapshot(self) -> Stats:
        """Return a copy that later traffic does not change."""
        return Stats(
            self.open,
            self.total,
            self.outgoing,
            self.bytes_in,
            self.bytes_out,
            Counter(self.errors),
        )
