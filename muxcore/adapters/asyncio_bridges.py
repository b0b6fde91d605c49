"""What asyncio calls: each bridge passes callbacks on to the user's protocol, or to a verb."""

from __future__ import annotations

import asyncio
from typing import Any

from muxcore import dispatch
from muxcore.protocol import handles


class Bridge:
    """What asyncio calls, whichever kind the user's protocol is of."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def connection_made(self, inner: Any) -> None:
        self._transport._made(inner)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport._gone(exc)

    def pause_writing(self) -> None:
        transport = self._transport
        if handles(transport._protocol, "pause_writing"):
            dispatch.call(transport, transport._protocol, "pause_writing")
        else:
            transport._protect()

    def resume_writing(self) -> None:
        transport = self._transport
        if transport._protected:
            transport._unprotect()
        else:
            dispatch.call(transport, transport._protocol, "resume_writing")

    def eof_received(self) -> bool:
        transport = self._transport
        transport._eof_heard = True
        if transport._user_paused:  # uvloop: see AsyncioTransport._arrived
            transport._early_eof = True
            return True
        return bool(dispatch.call(transport, transport._protocol, "eof_received"))


class StreamBridge(Bridge, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self._transport._arrived(data)


class BufferedBridge(Bridge, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> Any:
        transport = self._transport
        try:
            buffer = transport._protocol.get_buffer(sizehint)
            if not memoryview(buffer).nbytes:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except Exception as exc:
            # raised, not aborted: both loops close for it; uvloop 0.23 crashes on abort() in here
            transport._reason = exc
            raise
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        transport = self._transport
        transport._bytes_in += nbytes
        if transport._reason is None:
            dispatch.call(transport, transport._protocol, "buffer_updated", nbytes)


class VerbBridge(Bridge, asyncio.Protocol):
    """Under a verb: the user's protocol hears of nothing but ``connection_lost``."""

    def data_received(self, data: bytes) -> None:
        self._transport._arrived(data)

    def pause_writing(self) -> None:
        self._transport._protect()

    def resume_writing(self) -> None:
        if self._transport._protected:
            self._transport._unprotect()

    def eof_received(self) -> bool:
        self._transport._eof_heard = True
        return False  # asyncio sends what is queued, then closes


class RelayBridge(VerbBridge):
    """Under a relay: what this side cannot send stops the other from reading."""

    def pause_writing(self) -> None:
        self._transport._hold_peer(True)

    def resume_writing(self) -> None:
        self._transport._hold_peer(False)

    def eof_received(self) -> bool:
        self._transport._eof_heard = True
        self._transport._pass_on_eof()
        return True


def bridge_for(transport: Any, protocol: Any) -> asyncio.BaseProtocol:
    if not hasattr(protocol, "data_received") and hasattr(protocol, "get_buffer"):
        return BufferedBridge(transport)
    return StreamBridge(transport)
