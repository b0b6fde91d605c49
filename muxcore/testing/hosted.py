"""A server whose engine is a guest: in a thread of its own, in which another event loop runs."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Self

import muxcore
from muxcore.testing.peer import DEADLINE

HOSTS = ("asyncio", "uvloop", "trio")


def is_here(host: str) -> bool:
    """Whether a host loop is installed."""
    return find_spec(host) is not None


def _run_in(host: str, main: Callable[[], Coroutine[Any, Any, object]]) -> None:
    run = importlib.import_module(host).run
    run(main if host == "trio" else main())


class HostedServer(muxcore.Server):
    """A ``Server`` that runs in the background as a guest of a loop that has nothing else to do.

    Args:
        host: one of ``HOSTS``.
        service, where, options: as of ``Server``.
    """

    def __init__(self, host: str, service: Any, *where: Any, **options: Any) -> None:
        super().__init__(service, *where, **options)
        self._host = host
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._raised: BaseException | None = None  # by the host, and not seen yet

    def start(self) -> Self:
        if self._thread is not None:
            return super().start()  # which refuses it
        self._thread = threading.Thread(target=self._host_it, daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE), f"the host did not start within {DEADLINE:g} s"
        if not self.addresses:
            self._thread.join()
            self._raise()
        return self

    def stop(self) -> bool:
        drained = super().stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(DEADLINE)
            self._raise()
        return drained

    def _host_it(self) -> None:
        try:
            _run_in(self._host, lambda: self.run_async(lambda server: self._ready.set()))
        except BaseException as exc:
            self._raised = exc
        finally:
            self._ready.set()

    def _raise(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
