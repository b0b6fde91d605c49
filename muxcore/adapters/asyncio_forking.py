"""A fork in a callback: the child has a copy of the engine, and shares all that is in the kernel.

Two things that a child's loop does on its way out would reach the parent: epoll_ctl(2), for the
set that the parent waits on is the child's as well, and what it still reads and sends in that turn.
So the child's descriptors change first, under the same numbers: each connection becomes a socket
where nothing ever happens, and the set a set of the child's own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import weakref
from typing import Protocol


class Forks(Protocol):
    """An engine that is to know whether it is a copy."""

    forked: bool
    owner: int | None


_engines: weakref.WeakSet[Forks] = weakref.WeakSet()
_NOBODY = -1  # no thread's ident


def watch_for_forks(engine: Forks) -> None:
    """Have ``engine.forked`` set in a child of the process that runs the engine."""
    _engines.add(engine)


def part(engine_fd: int, descriptors: list[int]) -> None:
    """Part a child from its parent's descriptors, and from the epoll set.

    Args:
        engine_fd: a descriptor that the loop watches, and no other: it tells which set is the
            loop's.
        descriptors: all that are not to reach the parent any more.
    """
    quiet, kept = socket.socketpair()
    quiet.setblocking(False)
    sets = _epoll_sets(engine_fd)
    for fd in descriptors:
        if fd >= 0:
            os.dup2(quiet.fileno(), fd, inheritable=False)
    for number, watched in sets.items():
        with select.epoll() as own:
            for fd in watched:  # libuv aborts where it changes what is not registered
                with contextlib.suppress(OSError):
                    own.register(fd, 0)
            os.dup2(own.fileno(), number, inheritable=False)
    quiet.close()
    kept.detach()  # open as long as the child lives: nobody hangs up


def _epoll_sets(engine_fd: int) -> dict[int, list[int]]:
    """Return the epoll descriptors that watch ``engine_fd``, with all that they watch: proc(5)."""
    found: dict[int, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):  # only Linux has it, and only Linux shares sets
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{name}") as info:
                watched = [int(line.split()[1]) for line in info if line.startswith("tfd:")]
                if engine_fd in watched:
                    found[int(name)] = watched
    return found


def _mark() -> None:
    for engine in _engines:
        if engine.owner is not None:  # else it was made before the fork, to be run after it
            engine.forked = True
            engine.owner = _NOBODY  # so that what it is asked for is refused


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark)
