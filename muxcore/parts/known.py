"""What can be asked of a connection to its very end, whoever has its bytes."""

from __future__ import annotations

import abc
from threading import get_ident
from typing import TYPE_CHECKING, Any

from muxcore.abc import Engine
from muxcore.parts.transport_socket import TransportSocket
from muxcore.protocol import AnyProtocol, ServerCalls

if TYPE_CHECKING:  # who reads no header needs no parser
    from muxcore.parsers import ProxyHeader


class Proxied(dict[str, Any]):
    """What a PROXY header says of a connection, by the names that ``get_extra_info`` has."""


class Known(abc.ABC):
    """A connection: who its peer is, what has moved, and that it is to end."""

    __slots__ = ("_engine", "_peername")

    _engine: Engine
    _peername: Any

    @property
    def server(self) -> ServerCalls:
        return self._engine.server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if isinstance(self._peername, Proxied) and name in self._peername:
            return self._peername[name]
        if name == "peername":
            return self._peername
        if name == "engine":
            return self._engine.name
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread(f"get_extra_info({name!r})")
        if name == "bytes":
            return self._counted()
        if name == "sockname":
            return self._sockname(default)
        if name == "socket":
            return self._socket()
        return default

    def answered_after(self, began: float) -> float | None:
        """Return how many seconds after ``began`` a relay's other side sent its first byte.

        Args:
            began: by ``time.monotonic()``; before that byte.

        Returns:
            None: it has sent none; or nobody knows: C says so at the end, asyncio never does.
        """
        return None

    def is_for(self, header: ProxyHeader) -> None:
        """Have the connection known as the one that its PROXY header tells of."""
        peername, sockname = self.get_extra_info("peername"), self.get_extra_info("sockname")
        told = Proxied(proxy=header, proxy_peername=peername, proxy_sockname=sockname)
        told |= {"peername": peername, "sockname": sockname}
        if header.source is not None and header.destination is not None:
            six = (0, 0) if header.family == "TCP6" else ()  # flow and scope, as sockets have them
            for name, end in (("peername", header.source), ("sockname", header.destination)):
                told[name] = (*end, *six) if isinstance(end, tuple) else end
        self._peername = told

    def _sockname(self, default: Any) -> Any:
        sock = self._socket()
        try:
            return sock.getsockname() if sock is not None else default
        except OSError:
            return default

    # -- for an engine's transport to fill in

    @abc.abstractmethod
    def tell_draining(self) -> None:
        """Let the protocol hear that the server drains; under a verb nobody does."""

    @abc.abstractmethod
    def has_ended(self) -> bool:
        """Whether it is lost, though ``connection_lost`` may not have been called."""

    @abc.abstractmethod
    def get_protocol(self) -> AnyProtocol: ...

    @abc.abstractmethod
    def get_write_buffer_size(self) -> int: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    def abort(self) -> None: ...

    def _waits_for_rate(self) -> bool:
        """Whether it, or a relay's other side, has bytes that only a rate keeps back."""
        return False

    @abc.abstractmethod
    def _fail(self, exc: BaseException | None) -> None:
        """End at once: drop what is queued; ``connection_lost(exc)`` follows soon."""

    @abc.abstractmethod
    def _counted(self) -> tuple[int, int]:
        """Return (bytes received, bytes sent)."""

    @abc.abstractmethod
    def _socket(self) -> TransportSocket | None: ...


class ToItsEnd(Known):
    """A relayed connection of which nothing else is asked any more: a transport, or less."""

    __slots__ = ()

    @abc.abstractmethod
    def ended_first(self) -> bool:
        """Whether the peer ended the relay: its EOF came before the other side's."""
