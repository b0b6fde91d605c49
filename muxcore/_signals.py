"""What signals ask of a server while it runs in the main thread."""

from __future__ import annotations

import contextlib
import signal
from typing import Protocol

from muxcore._phases import Phases
from muxcore.abc import Engine
from muxcore.parts.signals import Heard, ServerSignals, has_terminal
from muxcore.restarting.successor import Restart


class Asked(Protocol):
    """What they ask for."""

    def request_stop(self) -> None: ...

    def request_drain(self) -> None: ...

    def reload(self) -> None: ...

    def reopen_logs(self) -> None: ...


def signals_of(
    server: Asked, engine: Engine, phases: Phases, restart: Restart | None
) -> ServerSignals:
    """Return the signals of a server, which are heard while they are entered.

    SIGHUP means two things: to read again what a program was told, and that its terminal is closed.
    It is the second if there was a controlling terminal, and there is none any more.
    """
    had_terminal = has_terminal()

    def ask(number: signal.Signals) -> None:
        if restart is not None:
            restart.cancel(number)
        if number == signal.SIGINT:
            server.request_stop()
        else:
            phases.ask(None, number.name)
            server.request_drain()

    def hang_up(number: signal.Signals) -> None:
        if had_terminal and not has_terminal():
            signals.end(number)
        else:
            server.reload()

    def begin(number: signal.Signals) -> None:
        if restart is not None:
            engine.call_from_signal(lambda: restart.begin(number.name))

    def resize(more: int) -> None:
        with contextlib.suppress(ValueError):  # there are as few, or as many, as there can be
            engine.resize(engine.count + more)

    others: dict[signal.Signals, Heard] = {
        signal.SIGHUP: hang_up,
        signal.SIGUSR1: lambda number: server.reopen_logs(),
        signal.SIGUSR2: begin,
    }
    if engine.count:
        others[signal.SIGTTIN] = lambda number: resize(1)
        others[signal.SIGTTOU] = lambda number: resize(-1)
    signals = ServerSignals(engine.signal_fileno(), ask, engine.abort, others)
    return signals
