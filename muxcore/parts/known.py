"""What can be asked of a connection to its very end, whoever has its bytes."""

from __future__ import annotations

import abc
from threading import get_ident
from typing import Any

from muxcore.abc import Engine
from muxcore.parts.transport_socket import TransportSocket
from muxcore.protocol import AnyProtocol, ServerCalls


class Known(abc.ABC):
    """A connection: who its peer is, what has moved, and that it is to end."""

    __slots__ = ("_engine", "_peername")

    _engine: Engine
    _peername: Any

    @property
    def server(self) -> ServerCalls:
        return self._engine.server

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peername
        if name == "engine":
            return self._engine.name
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread(f"get_extra_info({name!r})")
        if name == "bytes":
            return self._counted()
        if name == "sockname":
            sock = self._socket()
            try:
                return sock.getsockname() if sock is not None else default
            except OSError:
                return default
        if name == "socket":
            return self._socket()
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
