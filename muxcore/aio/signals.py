"""Signals while servers of a loop serve until one ends them, or a restart of the program does.

They are the loop's to hear, as ``loop.add_signal_handler`` has it, so that its other signals and
its child processes go on as before. Several servers hear them together. What they did before is
put back, but for handlers of ``loop.add_signal_handler``, which no loop tells of. SIGUSR2 is heard
only where the program left it its default.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from muxcore.restarting.predecessor import predecessor
from muxcore.restarting.successor import Restart

_TO_END = (signal.SIGTERM, signal.SIGINT)


class Asked(Protocol):
    """A server, as far as they ask something of it."""

    def _asked_to_end(self, number: signal.Signals) -> None: ...

    def _hand_over(self, heir: int) -> None: ...


_servers: list[Asked] = []  # of the main thread
_before: dict[signal.Signals, Any] = {}
_restart: Restart | None = None  # the latest: of those servers


@contextlib.contextmanager
def heard(server: Asked, limit: float) -> Iterator[None]:
    """Have a server hear them in the loop; only in the main thread: so Python allows.

    Whoever has started this program to take over is told that it serves.

    Args:
        server: it.
        limit: seconds until the program that takes over from this one must serve.
    """
    if threading.current_thread() is not threading.main_thread():
        predecessor.ready()
        yield
        return
    if not _servers:
        _begin(asyncio.get_running_loop(), limit)
    _servers.append(server)
    try:
        yield
    finally:
        _servers.remove(server)
        if not _servers:
            _end(asyncio.get_running_loop())


def _begin(loop: asyncio.AbstractEventLoop, limit: float) -> None:
    global _restart
    _restart = restart = Restart(loop.call_soon_threadsafe, loop.call_later, limit, _hand_over)
    for number in _TO_END:
        _before[number] = signal.getsignal(number)
        loop.add_signal_handler(number, _end_all, number)
    if signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL:
        _before[signal.SIGUSR2] = signal.SIG_DFL
        loop.add_signal_handler(signal.SIGUSR2, restart.begin, "SIGUSR2")
    restart.serves()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    if _restart is not None:
        _restart.end()
    while _before:
        number, handler = _before.popitem()
        loop.remove_signal_handler(number)
        # None stands for one that was not set from Python; it cannot be put back
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _end_all(number: signal.Signals) -> None:
    if _restart is not None:
        _restart.cancel(number)
    for server in list(_servers):
        server._asked_to_end(number)


def _hand_over(heir: int) -> None:
    for server in list(_servers):
        server._hand_over(heir)
