"""What asyncio calls: each bridge passes callbacks on to the user's protocol, or to a verb.

``eof_received`` always answers that the transport stays open: the end is ours to begin, with what
``close()`` does for everybody.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from muxcore.protocol import handles


class Bridge(asyncio.BaseProtocol):
    """What asyncio calls, whichever kind the user's protocol is of."""

    buffered: ClassVar[bool] = False

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def connection_made(self, inner: Any) -> None:
        self._transport._made(inner)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport._gone(exc)

    def broken(self, exc: BaseException | None) -> None:
        """Asyncio's transport has raised in the loop."""
        self._transport._fail(exc)

    def pause_writing(self) -> None:
        transport = self._transport
        transport._choked = True
        if handles(transport._protocol, "pause_writing"):
            transport._tell("pause_writing")
        else:
            transport._protect()

    def resume_writing(self) -> None:
        transport = self._transport
        transport._choked = False
        if transport._protected:
            transport._unprotect()
        else:
            transport._tell("resume_writing")

    def eof_received(self) -> bool:
        transport = self._transport
        transport._eof_heard = True
        if transport._user_paused:  # uvloop: see Passing._arrived
            transport._early_eof = True
        elif not transport.is_closing():
            transport._ask_about_eof()
        return True


class StreamBridge(Bridge, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self._transport._arrived(data)


class BufferedBridge(Bridge, asyncio.BufferedProtocol):
    """Lends asyncio the protocol's buffer, or the engine's where the bytes are not to go there."""

    buffered = True
    _lent = False  # whether asyncio has the protocol's
    _size = 0  # of it

    def get_buffer(self, sizehint: int) -> Any:
        transport = self._transport
        self._lent = False
        if self._is_heard():
            buffer = transport._lend(sizehint)
            if buffer is not None and self._is_heard():
                self._lent, self._size = True, memoryview(buffer).nbytes
                return buffer
        return transport._engine.scratch

    def buffer_updated(self, nbytes: int) -> None:
        transport = self._transport
        if transport._asked:
            transport._ask_now()
        if not self._lent:
            transport._arrived(bytes(transport._engine.scratch[:nbytes]))
            return
        transport._bytes_in += nbytes
        transport._may_be_unread = nbytes == self._size
        if not transport.is_closing():
            transport._tell("buffer_updated", nbytes)
            transport._hold_if_paused()

    def _is_heard(self) -> bool:
        transport = self._transport
        return transport.bridge is self and not (transport._user_paused or transport.is_closing())


class VerbBridge(Bridge, asyncio.Protocol):
    """Under a verb: the user's protocol hears of nothing but ``connection_lost``."""

    def data_received(self, data: bytes) -> None:
        self._transport._arrived(data)

    def pause_writing(self) -> None:
        self._transport._choked = True
        self._transport._protect()

    def resume_writing(self) -> None:
        self._transport._choked = False
        if self._transport._protected:
            self._transport._unprotect()

    def eof_received(self) -> bool:
        self._transport._eof_heard = True
        self._transport.close()  # once what is queued is sent
        return True


class RelayBridge(VerbBridge):
    """Under a relay: what this side cannot send stops the other from reading."""

    def pause_writing(self) -> None:
        self._transport._choked = True
        self._transport._hold_peer(True)

    def resume_writing(self) -> None:
        self._transport._choked = False
        self._transport._hold_peer(False)

    def eof_received(self) -> bool:
        self._transport._eof_heard = True
        self._transport._pass_on_eof()
        return True


NOBODY = Bridge(None)
"""The bridge of a connection that is lost: asyncio calls none."""


def bridge_for(transport: Any, protocol: Any) -> Bridge:
    if not hasattr(protocol, "data_received") and hasattr(protocol, "get_buffer"):
        return BufferedBridge(transport)
    return StreamBridge(transport)
