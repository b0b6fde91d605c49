"""A server in the thread that runs it: signals, the file that names it, and its restarts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from muxcore import hosts
from muxcore._life import Life
from muxcore._signals import Asked, signals_of
from muxcore._supervised import supervise
from muxcore.restarting.pidfile import Pidfile
from muxcore.restarting.predecessor import predecessor
from muxcore.restarting.successor import Restart


class Running(Life, Asked):
    """What ``Server`` does in ``run()``, and in ``run_async()``."""

    _before_ready: Callable[[], object] | None = None  # what has to go well, or nobody serves

    def _run(
        self,
        on_ready: Callable[[Any], object] | None,
        pidfile: str | os.PathLike[str] | None,
    ) -> int:
        """Do what ``run()`` does."""
        file = Pidfile(pidfile)
        file.check()
        self._open()
        self._runner = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            self._restart = self._new_restart(file)
        try:
            with signals_of(self, self._engine, self._phases, self._restart) as signals:
                try:
                    self._drained = self._serve(on_ready, file)
                except BaseException as exc:
                    self._failure, self._drained = exc, False
                    predecessor.failed(exc)
                    raise
                finally:
                    self._engine.close()
                    self._ended()
                    file.remove()
                    if self._restart is not None:
                        self._restart.end()
        finally:
            self._ended()
        if len(signals.received) > 1:
            return 128 + signals.received[-1]
        if signals.received == [signal.SIGINT]:
            return 128 + signal.SIGINT
        return 0 if self._drained else 1

    async def _run_as_guest(self, on_ready: Callable[[Any], object] | None) -> bool:
        """Do what ``run_async()`` does."""
        host = hosts.current()
        self._open()
        self._runner = threading.get_ident()
        try:
            if on_ready is not None:
                on_ready(self)
            await host.serve(self._engine)
        finally:
            self._engine.close()
            self._drained = self._engine.drained
            self._ended()
        return self._drained

    def _serve(self, on_ready: Callable[[Any], object] | None, file: Pidfile) -> bool:
        self._engine.get_ready()
        supervise(self)
        # what workers take to be ready is long enough for a signal
        if self._is_ready() or not self._engine.count:
            if self._before_ready is not None:
                self._before_ready()
            file.write()
            if on_ready is not None:
                on_ready(self)
                self._refuse_copy("run()")  # it may have forked, and returned in both
            if self._restart is None:
                predecessor.ready()
            else:
                self._restart.serves()
        return self._engine.run()

    def _new_restart(self, file: Pidfile) -> Restart:
        engine = self._engine
        limit = engine.limits.restart_timeout
        return Restart(engine.call_from_signal, engine.alarm, limit, self._hand_over, file.write)

    def _ask_restart(self, by: str) -> None:
        restart = self._restart
        if restart is None or self._state != "running":
            raise RuntimeError(f"{by} is for a server that run() serves in the main thread")
        self._engine.call_from_signal(lambda: restart.begin(by))
