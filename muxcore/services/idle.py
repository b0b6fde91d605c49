"""A service whose connections may be idle for so long, beside what the server has for all."""

from __future__ import annotations

from typing import Any

from muxcore.errors import IdleTimeout
from muxcore.limits import seconds
from muxcore.parts.rounds import Rounds
from muxcore.pool.trials import LOOKS
from muxcore.services.wrapping import Wrapper, enter


class Idle(Wrapper):
    """A service of which a connection ends with ``IdleTimeout`` when no byte moves for long.

    ``Limits.idle_timeout`` holds as well, for all of the server, and costs nothing in Python. Here
    each connection is looked at four times within its time, and cut a quarter late at most.

    Args:
        service: what is within.
        timeout: seconds.

    Raises:
        TypeError, ValueError: the timeout is no time, or not above 0.
    """

    def __init__(self, service: Any, *, timeout: float) -> None:
        super().__init__(service)
        if not seconds("Idle(timeout=…): timeout", timeout):
            raise ValueError("Idle(timeout=0): timeout must be above 0")
        self.timeout = timeout
        self._rounds: Rounds | None = None  # once somebody came

    def __call__(self) -> Any:
        return _Entry(self)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"timers"})

    def _watch(self, transport: Any) -> None:
        if self._rounds is None:
            self._rounds = Rounds(transport.server, self.timeout / LOOKS)
        watch = Watch(transport, self.timeout)
        transport.add_witness(watch)
        self._rounds.add(watch)


class Watch:
    """The witness of a connection that is looked at until it is idle, or has ended.

    Args:
        transport: the connection.
        timeout: seconds, for the error.
    """

    __slots__ = ("_moved", "_quiet", "_timeout", "_transport")

    def __init__(self, transport: Any, timeout: float) -> None:
        self._transport = transport  # None: it has ended
        self._timeout = timeout
        self._moved: tuple[int, int] | None = None  # bytes, at the last look
        self._quiet = 0  # looks at which none had

    def look(self) -> bool:
        transport = self._transport
        if transport is None:
            return False
        moved = transport.get_extra_info("bytes")
        is_quiet = moved == self._moved and not transport._waits_for_rate()
        self._quiet = self._quiet + 1 if is_quiet else 0
        self._moved = moved
        if self._quiet < LOOKS:
            return True
        self._transport = None
        transport._fail(IdleTimeout(self._timeout))
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None


class _Entry:
    """The protocol of a connection that comes."""

    __slots__ = ("_idle",)

    def __init__(self, idle: Idle) -> None:
        self._idle = idle

    def connection_made(self, transport: Any) -> None:
        self._idle._watch(transport)
        enter(transport, self._idle.service)
