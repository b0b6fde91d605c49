"""The one page between the loop and the kernel: what select() and epoll have to answer.

Readiness is written in the bits of poll(2), which are epoll's as well, so that theirs need no
translation; what a kernel says beyond these three (a hang-up, a FIN, urgent data) means that the
connection is to be read until nothing is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

READ = 1  # POLLIN: bytes, a connection to accept, or EOF
WRITE = 4  # POLLOUT: room in the send buffer
ERROR = 8  # POLLERR: the connection was reset, or is broken in another way
ANYTHING = ~0  # nobody has asked the kernel: a call will tell


class Poller(Protocol):
    """Who is ready?"""

    def __init__(self, trigger: str) -> None: ...

    def refuse(self, fd: int) -> str | None:
        """Return why this descriptor cannot be watched, or None."""

    def watch(self, fd: int, mask: int) -> None:
        """Report ``fd`` when it is ready for READ, WRITE, both (the sum) or, at 0, for nothing.

        Also at 0 an ERROR is reported where the kernel can: once, or it would spin.

        Raises:
            OSError: the descriptor cannot be watched; if it was before, it is no more.
        """

    def forget(self, fd: int) -> bool:
        """Stop watching; always before the descriptor is closed.

        Returns:
            False: somebody else closed it, and the number may be another's. True says nothing.
        """

    def wait(self, timeout: float | None) -> Sequence[tuple[int, int]]:
        """Sleep until something is ready, at most ``timeout`` seconds (None: for ever).

        Returns:
            (descriptor, what of it is ready); after an ERROR or a hang-up both calls will tell. A
            descriptor that somebody else closed is ready for everything.
        """

    def close(self) -> None:
        """Give back what the kernel keeps for it."""
