"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass

from .build import Change

API = "api.c"
GATHER = "gather.c"
CONNECT = "connect.c"
CONNECTION = "connection.c"
ECHO = "verb_echo.c"
EPOLL = "backend_epoll.c"
LISTENER = "listener.c"
LOOP = "loop.c"
PYTHON = "verb_python.c"
RATE = "rate.c"
READY = "epoll_ready.c"
RELAY = "verb_relay.c"
SENDQ = "sendq.c"
SLOTS = "slots.h"
TODO = "todo.c"
WHEEL = "wheel.c"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is wrong.
        changes: of the core's text.
    """

    name: str
    changes: tuple[Change, ...]


def one(name: str, file: str, old: str, new: str) -> Fault:
    return Fault(name, ((file, old, new),))
