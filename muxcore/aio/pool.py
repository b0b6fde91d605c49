"""Outgoing connections: to an address, or to one of a pool's upstreams."""

from __future__ import annotations

import muxcore
from muxcore.address import Address
from muxcore.aio.connection import Connection
from muxcore.aio.home import here
from muxcore.aio.inbox import KEEP
from muxcore.aio.opening import opened


async def connect(
    where: str | int | Address, *, timeout: float | None = None, keep: int = KEEP
) -> Connection:
    """Open a connection.

    In a handler, and in tasks that it starts, it belongs to the handler's server, and can be joined
    with its client; elsewhere it belongs to the loop.

    Args:
        where: an address, as in ``muxcore.Server``; a name is looked up in a thread, and all its
            addresses are tried (RFC 8305).
        timeout: seconds for all of it; None means ``Limits.connect_timeout``.
        keep: bytes that are kept while no task receives.

    Raises:
        AddressError: the address is malformed.
        TypeError, ValueError: the time-out is no time.
        OSError: there is no connection; ``ConnectTimeout``: not in time.
    """
    return Connection(await opened(here(), where, timeout=timeout, keep=keep))


class Pool(muxcore.Pool):
    """Upstreams with a policy, fail-over and counters: ``muxcore.Pool``, which can be awaited."""

    async def connect(
        self,
        *,
        tries: int | None = None,
        timeout: float | None = None,
        keep: int = KEEP,
        key: str | bytes = b"",
        proxy_for: Connection | None = None,
    ) -> Connection:
        """Open a connection to one of the upstreams, which counts it until it has ended.

        Args:
            tries: upstreams that are tried, each once, before it is given up; None means the pool's
                ``tries``.
            timeout: seconds for each; None means the pool's ``connect_timeout``, then
                ``Limits.connect_timeout``.
            keep: bytes that are kept while no task receives.
            key: what says which one it is under the policy "source": a tenant, a client's address.
            proxy_for: the client whom a pool with ``send_proxy`` tells the upstream of; None: the
                connection is this program's own, which a header says, too.

        Raises:
            NoUpstream: there is no connection; it has the reason of each try.
            TypeError, ValueError: the time-out is no time, or ``tries`` no count.
            ConnectionAbortedError: the server is ending.
        """
        named = key.encode() if isinstance(key, str) else key
        client = None if proxy_for is None else proxy_for._inbox.known
        found = await opened(
            *(here(), self), timeout=timeout, tries=tries, keep=keep, key=named, client=client
        )
        return Connection(found)
