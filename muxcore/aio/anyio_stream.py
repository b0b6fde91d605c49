"""A connection as anyio has them, with anyio's errors: for its TLS and its buffered wrappers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.abc
from anyio.abc import SocketAttribute

from muxcore.address import Address
from muxcore.aio.connection import Connection
from muxcore.errors import ConnectionClosed


class AnyioStream(anyio.abc.ByteStream):
    """A connection, as an ``anyio.abc.ByteStream``.

    Args:
        conn: it; it goes on to be used, and to be closed, through this alone.
    """

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._receives = self._sends = False

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._receives:
            raise anyio.BusyResourceError("receiving from")
        self._receives = True
        try:
            data = await self._conn.receive(max_bytes)
        except OSError as exc:
            raise _theirs(exc) from exc
        finally:
            self._receives = False
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._sends:
            raise anyio.BusyResourceError("sending from")
        self._sends = True
        try:
            await self._conn.send(item)
        except OSError as exc:
            raise _theirs(exc) from exc
        finally:
            self._sends = False

    async def send_eof(self) -> None:
        try:
            await self._conn.send_eof()
        except OSError as exc:
            raise _theirs(exc) from exc

    async def aclose(self) -> None:
        await self._conn.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        conn = self._conn
        attributes: dict[Any, Callable[[], Any]] = {
            SocketAttribute.family: lambda: conn.extra("socket").family,
            SocketAttribute.local_address: lambda: _socket_address(conn.local),
            SocketAttribute.raw_socket: lambda: conn.extra("socket"),
            SocketAttribute.remote_address: lambda: _socket_address(conn.peer),
        }
        if not conn.local.path and conn.local.host:
            attributes[SocketAttribute.local_port] = lambda: conn.local.port
            attributes[SocketAttribute.remote_port] = lambda: conn.peer.port
        return attributes


def _theirs(exc: OSError) -> Exception:
    """Return what anyio calls it: closed by this program, or broken by others."""
    if isinstance(exc, ConnectionClosed):
        return anyio.ClosedResourceError()
    return anyio.BrokenResourceError()


def _socket_address(where: Address) -> Any:
    return (where.host, where.port) if where.host else where.path
