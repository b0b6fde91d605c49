"""Connections are opened, and sockets taken over, in a task."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Callable
from threading import get_ident

from muxcore.address import Address, parse
from muxcore.aio.inbox import KEEP, Inbox
from muxcore.parts import sockets
from muxcore.parts.known import Known
from muxcore.parts.loop import LoopEngine
from muxcore.parts.searching import Search
from muxcore.parts.transport import BaseTransport
from muxcore.pool import Lease, Pool


async def opened(
    engine: LoopEngine,
    where: str | int | Address | Pool,
    *,
    timeout: float | None = None,
    tries: int | None = None,
    keep: int = KEEP,
    key: bytes = b"",
    client: Known | None = None,
) -> Inbox:
    """Open a connection.

    Args:
        engine: whose it will be; a guest in this loop.
        where: an address, or a pool.
        timeout: seconds for it, or for each try; None means the pool's, or
            ``Limits.connect_timeout``.
        tries: upstreams of a pool that are tried at most; None means its own number.
        keep: bytes that are kept while nobody receives.
        key: for a pool with the policy "source"; b"": the client's address.
        client: whom it is for, as a PROXY header tells it; None: this program.

    Raises:
        NoUpstream: none of the pool's can be connected to.
        AddressError, TypeError, ValueError: see ``Engine.connect``.
        OSError: there is no connection.
    """
    loop = asyncio.get_running_loop()
    _come_in(engine, "connect()")
    if isinstance(where, Pool):
        inbox = Inbox(engine, loop, keep)
        cancel = _searched(where, inbox, tries, timeout, key, client)
    else:
        address = parse(where)
        inbox = Inbox(engine, loop, keep, name=_name_of(address))
        cancel = engine.connect(address, lambda: inbox, timeout).cancel
    try:
        await inbox.opening()
    except BaseException:
        cancel()
        inbox.abort()
        raise
    return inbox


def _searched(
    pool: Pool,
    inbox: Inbox,
    tries: int | None,
    timeout: float | None,
    key: bytes,
    client: Known | None,
) -> Callable[[], object]:
    def found(transport: BaseTransport, lease: Lease) -> None:
        inbox.leased = lease
        transport.set_protocol(inbox)
        inbox.connection_made(transport)

    failed = inbox.connection_lost
    search = Search(
        *(pool, inbox.engine, found, failed), tries=tries, timeout=timeout, key=key, client=client
    )
    return search.cancel


def adopted(engine: LoopEngine, sock: socket.socket) -> Inbox:
    """Serve a connected socket; the caller's object is closed by this.

    Raises:
        TypeError, ValueError: this is no open stream socket.
        OSError: as many are open as ``Limits.connections`` allows, or the server is ending; then
            the connection is closed.
    """
    sockets.check_adopted(sock)
    _come_in(engine, "adopt()")
    inbox = Inbox(engine, asyncio.get_running_loop(), is_served=True)
    if not engine.take(sockets.taken_over(sock), lambda: inbox):
        why = "it has as many connections as Limits.connections allows, or is ending"
        raise OSError(errno.EAGAIN, f"the server takes no socket: {why}")
    return inbox


@functools.lru_cache(1024)  # thousands of pairs share the name of their upstream
def _name_of(address: Address) -> str:
    return str(address)


def _come_in(engine: LoopEngine, what: str) -> None:
    if get_ident() != engine.owner:
        engine.refuse_thread(what)
