"""asyncio's ``create_server`` and its kin, of which an engine accepts the clients and moves bytes.

The loop's own opens the listeners: what it says about hosts, families, paths and options holds
here. What the engine does not serve is the loop's altogether: TLS, and listeners of other families.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from muxcore.aio.asyncio_server import AsyncioServer
from muxcore.limits import Limits
from muxcore.parts import dispatch

Factory = Callable[[], Any]
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]

LIMITS = Limits(write_buffer=2**31 - 1)
"""What holds where nobody says. Programs that were written for asyncio write an answer in one
piece, whatever its size: no more than the engine can count may wait to be sent."""

_BACKLOG = 100  # asyncio's default
_LIMIT = 65_536  # asyncio's default: bytes of a line, and half of what a reader keeps
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


async def create_server(
    loop: asyncio.AbstractEventLoop | None,
    protocol_factory: Factory,
    host: Any = None,
    port: Any = None,
    *,
    limits: Limits | None = None,
    **options: Any,
) -> asyncio.Server:
    """Serve as ``loop.create_server`` does, in that loop, with an engine.

    Protocols get the engine's own transports, verbs included; docs/dropin.md says what differs.

    Args:
        loop: the one that runs; None stands for it.
        protocol_factory: returns an ``asyncio.Protocol`` or an ``asyncio.BufferedProtocol``.
        host, port: as of ``loop.create_server``.
        limits: the caps; None means the defaults with a ``write_buffer`` of 2 GiB.
        options: as of ``loop.create_server``: ``sock``, ``backlog``, ``start_serving`` and so on.
            With ``ssl`` the server is the loop's own.

    Returns:
        What has the methods of ``asyncio.Server``.

    Raises:
        ServiceError: the factory is not callable, or is a coroutine function.
        EngineUnavailable, CapabilityMissing: the engine that was chosen cannot be a ``guest``.
        OSError, TypeError, ValueError: what ``loop.create_server`` says.
    """
    opens = (loop or asyncio.get_running_loop()).create_server
    return await served(opens, protocol_factory, host, port, limits=limits, **options)


async def create_unix_server(
    loop: asyncio.AbstractEventLoop | None,
    protocol_factory: Factory,
    path: Any = None,
    *,
    limits: Limits | None = None,
    **options: Any,
) -> asyncio.Server:
    """Serve as ``loop.create_unix_server`` does; the rest is as of :func:`create_server`."""
    opens = (loop or asyncio.get_running_loop()).create_unix_server
    return await served(opens, protocol_factory, path, limits=limits, **options)


async def start_server(
    client_connected_cb: Connected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _LIMIT,
    limits: Limits | None = None,
    **options: Any,
) -> asyncio.Server:
    """Serve as ``asyncio.start_server`` does; the rest is as of :func:`create_server`.

    Args:
        client_connected_cb: called with a ``StreamReader`` and a ``StreamWriter`` of each client;
            a coroutine function becomes a task.
        host, port: as of ``loop.create_server``.
        limit: the most bytes of a line, or of what ``readuntil`` looks for.
        limits, options: as of :func:`create_server`.
    """
    factory = _streams(client_connected_cb, limit)
    return await create_server(None, factory, host, port, limits=limits, **options)


async def start_unix_server(
    client_connected_cb: Connected,
    path: Any = None,
    *,
    limit: int = _LIMIT,
    limits: Limits | None = None,
    **options: Any,
) -> asyncio.Server:
    """Serve as ``asyncio.start_unix_server`` does; the rest is as of :func:`start_server`."""
    factory = _streams(client_connected_cb, limit)
    return await create_unix_server(None, factory, path, limits=limits, **options)


def _streams(connected: Connected, limit: int) -> Factory:
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit, loop)
        return asyncio.StreamReaderProtocol(reader, connected, loop)

    return factory


async def served(
    opens: Callable[..., Awaitable[asyncio.Server]],
    factory: Factory,
    *where: Any,
    limits: Limits | None = None,
    backlog: int = _BACKLOG,
    start_serving: bool = True,
    **options: Any,
) -> asyncio.Server:
    """Serve what the loop opens.

    Args:
        opens: the loop's own ``create_server``, or ``create_unix_server``.
        factory, where, limits, backlog, start_serving, options: see :func:`create_server`.
    """
    if options.get("ssl") is not None:
        return await opens(factory, *where, backlog=backlog, start_serving=start_serving, **options)
    dispatch.check_service(factory)
    server = await opens(factory, *where, backlog=backlog, start_serving=False, **options)
    if all(sock.family in _FAMILIES for sock in server.sockets):
        ours = AsyncioServer(server, factory, backlog, limits or LIMITS)
        server = cast(asyncio.Server, ours)  # its shape
    if start_serving:
        try:
            await server.start_serving()
        except BaseException:
            server.close()
            raise
    return server
