"""How a connection ended that a verb had, and the protocol that hears of it.

From the verb on no byte comes here, and nothing but the end. A pair that was handed over has no
task: this object, and what the engine needs, is all that it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias

from muxcore.aio.inbox import Inbox
from muxcore.errors import IdleTimeout, MuxcoreError
from muxcore.parts.known import ToItsEnd
from muxcore.pool import Lease, Upstream
from muxcore.services.relay.access_log import client_name, ending

Side: TypeAlias = Literal["client", "upstream", "server"]

# Looks at a connection's counters within its idle time-out: it is cut an eighth late at most. Looks
# are counted, not seconds: after a stall of the loop the first comes before the bytes that waited.
_LOOKS = 8


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended that a verb had.

    Attributes:
        client: the address of the connection's peer; "unix" for one without a name.
        upstream: the address of a relay's other side; "" under another verb.
        bytes_up: received from the client, in the connection's whole life.
        bytes_down: sent to the client, in the connection's whole life.
        seconds: from accept, or from connect, to the end.
        reason: "closed", "stopped" (by the server's end), "reset by client", "reset by upstream",
            "idle", "half-close", or what else failed, in words.
        ended_by: who was the first to end it; "server" is this program.
    """

    client: str
    upstream: str
    bytes_up: int
    bytes_down: int
    seconds: float
    reason: str
    ended_by: Side


OnEnd: TypeAlias = Callable[[End], object]


class Handed:
    """The protocol of a connection that a verb has.

    Args:
        inbox: what it had until now.
        on_end: told of the end.
        upstream: the other side's address, for a relay; or the lease of the pool's upstream that it
            is: an upstream is told of the end here, a trial by its own connection.
    """

    __slots__ = (
        "_on_end",
        "_upstream",
        "began",
        "is_closed",
        "is_served",
        "transport",
    )

    def __init__(
        self,
        inbox: Inbox,
        on_end: OnEnd,
        upstream: Lease | str = "",
    ) -> None:
        self.transport: ToItsEnd | None = inbox.transport
        self.began = inbox.began
        self.is_served = inbox.is_served
        self.is_closed = False  # by this program
        self._on_end = on_end
        self._upstream = upstream

    @property
    def upstream(self) -> str:
        """The other side's address; "" under another verb than relay."""
        return self._upstream if isinstance(self._upstream, str) else self._upstream.name

    def close(self) -> None:
        """Send what is queued for either side, and end both."""
        if self.transport is not None:
            self.is_closed = True
            self.transport.close()

    def abort(self) -> None:
        """End both sides at once."""
        if self.transport is not None:
            self.is_closed = True
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        transport, self.transport = self.transport, None  # else each would keep the other
        assert transport is not None
        if isinstance(self._upstream, Upstream):
            self._upstream.connection_lost(exc)
        received, sent = transport.get_extra_info("bytes")
        self._on_end(
            End(
                client_name(transport.get_extra_info("peername")),
                self.upstream,
                received,
                sent,
                monotonic() - self.began,
                self._reason(transport, exc),
                self._ended_by(transport, exc),
            )
        )

    def _reason(self, transport: ToItsEnd, exc: BaseException | None) -> str:
        if exc is not None:
            return ending(exc)
        return "stopped" if transport._engine.ending and not self.is_closed else "closed"

    def _ended_by(self, transport: ToItsEnd, exc: BaseException | None) -> Side:
        if self.is_closed or transport._engine.ending or isinstance(exc, MuxcoreError):
            return "server"
        if exc is not None:
            return "client" if exc.__cause__ is None else "upstream"
        if not self._upstream or transport.ended_first():
            return "client"
        return "upstream"


class IdleWatch:
    """Cuts a connection in which no byte moves, by a time-out of its own.

    Args:
        handed: the connection's protocol.
        timeout: seconds.
    """

    __slots__ = ("_handed", "_moved", "_quiet", "_timeout")

    def __init__(self, handed: Handed, timeout: float) -> None:
        self._handed = handed
        self._timeout = timeout
        self._moved = (-1, -1)  # bytes, at the last look
        self._quiet = 0  # looks at which none had
        self._look()

    def _look(self) -> None:
        transport = self._handed.transport
        if transport is None:
            return
        moved = transport.get_extra_info("bytes")
        self._quiet = self._quiet + 1 if moved == self._moved else 0
        self._moved = moved
        if self._quiet < _LOOKS:
            asyncio.get_running_loop().call_later(self._timeout / _LOOKS, self._look)
        else:
            transport._fail(IdleTimeout(self._timeout))
