"""A fork in a callback: the child has a copy of the engine, and shares all that is in the kernel.

epoll_ctl(2) in the child changes the set that the parent waits on: an epoll set is one for both,
and a loop that unwinds takes its descriptors out of it. So the child's become ``/dev/null`` first,
under the same numbers: whatever the loop still does with one, and whoever closes it, the parent's
is not touched.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

_engines: weakref.WeakSet[Any] = weakref.WeakSet()
_loops: list[Any] = []  # of a child: closing one, as its finalizer would, is a change of the set


def watch_for_forks(engine: Any) -> None:
    """Have ``engine.forked`` set in a child of the process that runs the engine."""
    _engines.add(engine)


def let_go(descriptors: Iterable[int], loop: Any) -> None:
    """Part a child from its parent's descriptors, and keep its loop from being closed."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in descriptors:
        if fd >= 0:
            os.dup2(null, fd, inheritable=False)
    os.close(null)
    _loops.append(loop)


def _mark() -> None:
    for engine in _engines:
        if engine.owner is not None:  # else it was made before the fork, to be run after it
            engine.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark)
