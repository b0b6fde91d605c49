"""SIGTERM and SIGINT while servers of a loop serve until they come.

They are the loop's to hear, as ``loop.add_signal_handler`` has it, so that its other signals and
its child processes go on as before. Several servers hear them together. What they did before is
put back, but for handlers of ``loop.add_signal_handler``, which no loop tells of.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

_NUMBERS = (signal.SIGTERM, signal.SIGINT)

Heard: TypeAlias = Callable[[signal.Signals], object]

_asked: list[Heard] = []  # who is to hear of one: the main thread's servers
_before: dict[signal.Signals, Any] = {}


@contextlib.contextmanager
def stop_signals(asked: Heard) -> Iterator[None]:
    """Have both call ``asked(number)`` in the loop; only in the main thread: so Python allows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    if not _asked:
        for number in _NUMBERS:
            _before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, _tell_all, number)
    _asked.append(asked)
    try:
        yield
    finally:
        _asked.remove(asked)
        if not _asked:
            for number in _NUMBERS:
                loop.remove_signal_handler(number)
                handler = _before.pop(number)
                # None stands for one that was not set from Python; it cannot be put back
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _tell_all(number: signal.Signals) -> None:
    for asked in list(_asked):
        asked(number)
