"""Which process this is: what a fork shares with its parent's engines is the parent's.

A forked child has the parent's descriptors, and with them its epoll set: a registration that the
child takes back is gone for the parent as well (epoll(7)). So an engine remembers ``current`` when
it is made, and where that is another by now it closes descriptors and does nothing else. To compare
costs no system call; a fork that Python does not see (fork(2) in an extension) is not noticed.
"""

from __future__ import annotations

import os


class Process:
    """One process.

    Attributes:
        pid: its number.
    """

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()


current = Process()


def refuse() -> None:
    """Refuse to serve.

    Raises:
        RuntimeError: always; it says what to do instead.
    """
    raise RuntimeError(
        "this process is a fork of the one in which the server was made: leave the server "
        "to that, end a forked child with os._exit(), or make a server in the child"
    )


def _forked() -> None:
    global current
    current = Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
