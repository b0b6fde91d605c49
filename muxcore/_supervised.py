"""What the supervisor is told of a server, and when: systemd's Type=notify and notify-reload.

=============================== ====================================================================
when                            what
=============================== ====================================================================
it serves; of workers each      READY=1, STATUS=listening on …
a reload, as by SIGHUP          RELOADING=1, MONOTONIC_USEC=…; READY=1 once its hooks were called
its end begins                  STOPPING=1
then, each second               STATUS=draining: 3 clients left, EXTEND_TIMEOUT_USEC=…
each half of WATCHDOG_USEC      WATCHDOG=1
another process has taken over  MAINPID=… (restarting/successor.py); that one speaks from then on
=============================== ====================================================================

All of it comes from the loop that accepts, by its own timers: a callback that does not return, or a
process that is stopped, is silent, and that is what a watchdog is for. ``parts/notify.py`` sends
it. Of several servers in a process there is one supervisor: it hears of an end when the last one's
begins, since then systemd counts.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from muxcore.abc import logger
from muxcore.errors import CapabilityMissing
from muxcore.parts.notify import VARIABLE, notify

_TICK = 1.0  # s between two words during an end
_MORE = 30.0  # s, what each of them asks for: a machine may stand still for some of it

_told: list[_Told] = []


def supervise(server: Any) -> None:
    """Tell the supervisor, if there is one, of a server that serves from now on.

    Args:
        server: a ``Server``, in ``run()`` or in somebody's loop.
    """
    if os.environ.get(VARIABLE) and not any(each.server is server for each in _running()):
        told = _Told(server)
        _told[:] = [*_running(), told]
        told.begin()


def _running() -> list[_Told]:
    return [each for each in _told if each.server._state == "running"]


def _status() -> str:
    where = ", ".join(each for told in _running() for each in told.server.addresses)
    count = sum(told.server.workers for told in _running())
    workers = f", {count} worker{'s' if count > 1 else ''}" if count else ""
    return f"STATUS=listening on {where}{workers}"


class _Told:
    """One server."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.ends = False
        self._engine = server._engine
        self._pid = os.getpid()  # a fork is none of the supervisor's
        self._between = _watchdog()

    def begin(self) -> None:
        self.server.on_drain.insert(0, self._end_begins)
        self.server.on_reload.insert(0, self._reload_begins)
        if self.server._phases.asked:  # a signal came before it served
            self._engine.call_from_signal(lambda: self._end_begins(self.server))
        else:
            notify("READY=1", _status())
        if self._between is not None:
            self._engine.call_from_signal(self._beat)

    def _beat(self) -> None:
        assert self._between is not None
        if self._has_heir():
            return
        notify("WATCHDOG=1")
        try:
            self._engine.alarm(self._between, self._beat)
        except CapabilityMissing:
            logger.error(
                "WATCHDOG_USEC: engine %r has no timers, and cannot say that it lives: leave "
                "WatchdogSec= out, or it will be killed",
                self._engine.name,
            )

    def _reload_begins(self, server: Any) -> None:
        """The first of the hooks: the others have been called when the next call is made."""
        if not self.ends:
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._engine.call_from_signal(self._reloaded)

    def _reloaded(self) -> None:
        if not self.ends:
            notify("READY=1", _status())

    def _has_heir(self) -> bool:
        """Whether another process has taken over, which speaks for the service now."""
        return bool(self.server._phases.heir)

    def _end_begins(self, server: Any) -> None:
        if self.ends or self._has_heir() or os.getpid() != self._pid:
            return
        self.ends = True
        if all(each.ends for each in _running()):
            notify("STOPPING=1")
        self._tell_end()

    def _tell_end(self) -> None:
        if all(each.ends for each in _running()):
            notify(*self._progress())
        with contextlib.suppress(CapabilityMissing):  # it is told once
            self._engine.alarm(_TICK, self._tell_end)

    def _progress(self) -> list[str]:
        left = sum(each._engine.stats().open for each in _running())
        what = "draining" if self._engine.draining else "stopping"
        said = [f"STATUS={what}: {left} client{'' if left == 1 else 's'} left"]
        until = self.server._phases.until
        if until is None or time.monotonic() < until:
            said.append(f"EXTEND_TIMEOUT_USEC={int(_MORE * 1e6)}")
        return said


def _watchdog() -> float | None:
    """Return the seconds between two words of life: half of what sd_watchdog_enabled(3) allows.

    ``WATCHDOG_PID`` is removed then: whoever takes this process's place is meant as well, and may
    be another one.
    """
    microseconds, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or pid not in (None, str(os.getpid())):
        return None
    if not microseconds.isdecimal() or not int(microseconds):
        logger.warning("WATCHDOG_USEC is %r, which is no time: it is left out", microseconds)
        return None
    os.environ.pop("WATCHDOG_PID", None)
    return int(microseconds) / 2e6
