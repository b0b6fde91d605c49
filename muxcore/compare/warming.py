"""Warming a server as production would: before it is measured, clients come, talk and go.

Some costs end only when the first client has gone. glibc's malloc maps each block above 128 KiB by
itself (mallopt(3), M_MMAP_THRESHOLD) until one of such a size is freed whole: asyncio's
``recv(262144)`` costs mmap, mremap and munmap for each message until an end of file frees a buffer
of that size. A server that is measured before that is measured in a state that it leaves for good
with its first client's end; here asyncio's callbacks then cost 24 us of CPU a message, not 10.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from muxcore.load import LoadConfig, LoadResult, generator, numeric, window

_CLIENTS = 4  # at once: more than one, for what a server keeps from one client for the next
_WAVES = 2  # the second meets what the first has left behind
_TALK = 0.02  # s of messages, one after the other: some hundreds of them, where each is small
_TRIES = 20  # of a wave in which no message came to pass: so busy may a machine be for 0.4 s

_WAVE: Mapping[str, Any] = {
    "workload": "echo",
    "idle": 0,
    "depth": 1,
    "rate": 0.0,
    "poisson": False,
    "ramp": 0.0,
}


def warm(address: str, load: Mapping[str, Any] | None = None, kind: str = "auto") -> LoadResult:
    """Let a few clients connect, talk and close in order, twice; return how the last ones fared.

    Args:
        address: the server's.
        load: ``LoadConfig``'s arguments of what is measured later: its messages are sent, one at a
            time on each of a few connections.
        kind: which load generator (see :func:`muxcore.load.generator`).

    Returns:
        The last wave's result; where it is not ``ok`` the server is no server to be measured.
    """
    wanted = dict(load or {})
    connections = min(_CLIENTS, wanted.get("connections", _CLIENTS))
    config = LoadConfig(address=numeric(address), **{**wanted, **_WAVE, "connections": connections})
    for _ in range(_WAVES):
        for _ in range(_TRIES):
            with contextlib.closing(generator(config, kind)) as clients:
                result = window(clients, 0.0, _TALK)
            if result.answered or not result.ok:
                break
        if not result.ok:
            break
    return result
