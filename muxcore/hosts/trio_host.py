"""trio as a host loop: the task that awaits the guest's end is the one that watches for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from muxcore.abc import Engine


class _Timer:
    """A call that is due; ``cancel()`` drops it."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], object] | None) -> None:
        self.at = at
        self.call = call

    def cancel(self) -> None:
        self.call = None


class TrioHost:
    """The trio loop that runs this."""

    def __init__(self) -> None:
        self._fd = -1
        self._ready: Callable[[], object] | None = None
        self._soon: list[Callable[[], object]] = []
        self._timer = _Timer(math.inf, None)  # a guest has one
        self._sleep: trio.CancelScope | None = None  # in which the task waits

    # -- for the guest

    def watch(self, fd: int, call: Callable[[], object]) -> None:
        self._fd, self._ready = fd, call

    def forget(self, fd: int) -> None:
        """Nobody waits for it: the task that does is the one that is here."""
        self._fd, self._ready = -1, None

    def soon(self, call: Callable[[], object]) -> object:
        self._soon.append(call)
        self._wake()
        return None

    def later(self, delay: float, call: Callable[[], object]) -> _Timer:
        self._timer = _Timer(trio.current_time() + delay, call)
        self._wake()
        return self._timer

    def _wake(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()

    # -- for who awaits its end

    async def serve(self, engine: Engine) -> None:
        failures: list[BaseException | None] = []
        engine.be_guest(self, failures.append)
        try:
            await self._go_round(failures)
        except trio.Cancelled:
            engine.stop()
            with trio.CancelScope(shield=True):
                await self._go_round(failures)
            if failures[0] is None:
                raise
        if failures[0] is not None:
            raise failures[0]

    async def _go_round(self, ended: list[BaseException | None]) -> None:
        """Wait, and make the calls that are due, until the guest has ended."""
        while not ended:
            is_ready = await self._is_ready()
            for call in self._due():
                call()
            if is_ready and self._ready is not None:
                self._ready()

    async def _is_ready(self) -> bool:
        """Sleep until the descriptor is readable, or something else is to be done."""
        at = -math.inf if self._soon else self._timer.at if self._timer.call else math.inf
        with trio.CancelScope(deadline=at) as self._sleep:
            await trio.lowlevel.wait_readable(self._fd)
        asleep, self._sleep = self._sleep, None
        return not asleep.cancelled_caught

    def _due(self) -> list[Callable[[], object]]:
        soon, self._soon = self._soon, []
        timer = self._timer
        if timer.call is not None and timer.at <= trio.current_time():
            soon.append(timer.call)
            timer.cancel()
        return soon
