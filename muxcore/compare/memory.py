"""Memory per connection: the growth of a server that is given more of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muxcore.compare.servers import ServerFailed, ServerProcess, Subject
from muxcore.compare.warming import warm
from muxcore.load import LoadConfig, LoadError, LoadResult, generator, numeric, window

_FIRST = 50  # these pay for pools and tables that are there once
_MORE = 400  # over so many, a page (4 KiB) more or less is 10 bytes a connection


def per_connection(
    subject: Subject, more_connections: int = _MORE, script: Mapping[str, bytes] | None = None
) -> float | None:
    """Return the bytes each of the further idle connections costs the process, or None.

    The kernel's own memory of a socket is not in it; it is the same for every engine. Each
    connection has carried messages, so a buffer that is kept for good is counted.

    Args:
        subject: the server.
        more_connections: over how many the growth is divided.
        script: the load's ``request`` and ``reply``, for a service that does not echo.
    """
    try:
        with ServerProcess(subject) as server:
            target = numeric(server.address)
            load: dict[str, Any] = dict(script or {})
            if not warm(server.address, load).ok:
                return None
            first = generator(LoadConfig(address=target, connections=_FIRST, **load))
            more = generator(
                LoadConfig(address=target, connections=more_connections, seed=2, **load)
            )
            try:
                if not _speaks_once(window(first, 0.0, 0.02)):
                    return None
                before = server.memory()
                if not _speaks_once(window(more, 0.0, 0.02)):
                    return None
                return (server.memory() - before) / more_connections
            finally:
                first.close()
                more.close()
    except (ServerFailed, LoadError):
        return None


def _speaks_once(result: LoadResult) -> bool:
    return result.ok and result.open == result.opened
