"""Whether this process is a fork: what it shares with its parent's engines is the parent's.

A forked child has the parent's descriptors, and with them its epoll set: a registration that the
child takes back is gone for the parent as well (epoll(7)). So an engine remembers ``count``
when it is made, and where that differs it closes descriptors and does nothing else. The count costs
no system call; a fork that Python does not see (fork(2) in an extension) is not counted.
"""

from __future__ import annotations

import os

count = 0  # forks between the first process and this one, since this module was loaded


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
    global count
    count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
