"""The one page between the loop and the kernel: what select() and epoll have to answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

READ = 1  # bytes, a connection to accept, or EOF
WRITE = 4  # room in the send buffer


class Poller(Protocol):
    """Who is ready?

    Attributes:
        edge: readiness is reported once, when it begins; it must be used up before it comes again.
    """

    edge: bool

    def __init__(self, trigger: str) -> None: ...

    def refuse(self, fd: int) -> str | None:
        """Return why this descriptor cannot be watched, or None."""

    def watch(self, fd: int, mask: int) -> None:
        """Report ``fd`` when it is ready for READ, WRITE, both (the sum) or, at 0, for nothing."""

    def forget(self, fd: int) -> None:
        """Stop watching; always before the descriptor is closed."""

    def wait(self, timeout: float | None) -> Iterable[tuple[int, int, bool]]:
        """Sleep until something is ready, at most ``timeout`` seconds (None: for ever).

        Returns:
            (descriptor, READ and/or WRITE, whether a FIN, a hang-up or an error came along).
        """

    def close(self) -> None:
        """Give back what the kernel keeps for it."""
