"""Workers as an engine: a server has them as it has any engine, and its life is the same.

The parent's loop runs in the thread of ``run()``, or in one of its own after ``start()``. It may
run beside any threads: its workers are started fresh, and no Python code runs in a fork.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.limits import Limits
from muxcore.parts.waker import Waker
from muxcore.protocol import Handle, Service
from muxcore.stats import Stats
from muxcore.workers.crew import most_of
from muxcore.workers.parent import Parent
from muxcore.workers.places import Places
from muxcore.workers.task import Task, packed, refuse_preparing

BALANCES = ("kernel", "exact")
MOST = 1024  # workers; a machine with more cores than that is not known to us

# What is one process's affair: the parent has no connections, and callbacks run in the workers.
_NOT_HERE = frozenset({"adopt", "connect", "guest", "shared_state", "threadsafe_calls", "timers"})


def number_of(workers: int | str) -> int:
    """Return how many workers are meant; "auto": as many as there are cores for this process.

    Raises:
        ValueError: it is no such number.
    """
    if workers == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST:
        raise ValueError(f"workers must be 'auto' or a number from 1 to {MOST}, not {workers!r}")
    return workers


class Workers(Engine):
    """So many processes, each with an engine of its own.

    Args:
        count: how many.
        task: what each does.
        limits: the whole service's: connections and processes are shared out evenly.
        balance: "kernel", or "exact".
        trigger, allow_threads: as of ``Engine``.

    Attributes:
        count: the same.
        on_end: called, in its thread, when it has ended in the background.

    Raises:
        ServiceError: a worker cannot be told of a service.
        ValueError: more workers than connections, or an unknown balance.
    """

    def __init__(
        self,
        count: int,
        task: Task,
        limits: Limits,
        *,
        balance: str = "kernel",
        trigger: str = "level",
        allow_threads: bool = False,
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        refuse_preparing()
        if balance not in BALANCES:
            raise ValueError(f"balance must be {' or '.join(map(repr, BALANCES))}, not {balance!r}")
        least = min(limits.connections, limits.processes)
        if count > least:
            raise ValueError(f"{count} workers cannot share {least} connections: each needs one")
        self.count, self._most = count, most_of(count)
        self._task = task
        self.on_end: Callable[[], object] = lambda: None
        self._is_ready = threading.Event()  # or has ended
        self._waker = Waker()
        self._places = Places(count, exact=balance == "exact")
        self._parent = Parent(packed(task), self._places, limits, self._waker, self._told)

    def _told(self, phase: str) -> None:
        if phase == "draining":
            self.draining = True
        elif phase == "ending":
            self.ending = True
        self.on_phase(phase)

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        which = next(n for n, each in enumerate(self._task.services) if each is service)
        self._places.listen(sock, self.limits, which)

    def beside(self) -> Sequence[socket.socket]:
        return self._places.beside()

    def adopt(self, sock: socket.socket, service: Service) -> None:
        self.need("adopt")

    def connect(
        self, address: str | int | Address, service: Service, timeout: float | None = None
    ) -> Handle:
        self.need("connect")
        raise AssertionError("unreachable")

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        self.need("timers")
        raise AssertionError("unreachable")

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        self.need("threadsafe_calls")

    def call_from_signal(self, call: Callable[[], object]) -> None:
        self._parent.call(call)

    def skip_delay(self) -> None:
        super().skip_delay()
        self._parent.limits = self.limits

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        return self._parent.alarms.add_own(delay, call, *args)

    def tell_workers(self, word: str) -> None:
        self._parent.call(lambda: self._parent.order(word))

    def renew(self, news: bytes) -> None:
        task = packed(self._task)
        self._parent.call(lambda: self._parent.renew(task, news))

    def tell_workers_of(self, serves: Callable[[Any], object]) -> None:
        self._parent.call(lambda: self._parent.tell_of(serves))

    def resize(self, count: int) -> None:
        """Have so many workers from now on; from any thread and signal handler.

        Raises:
            ValueError: there cannot be so many.
        """
        most = min(self._most, self.limits.connections, self.limits.processes)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
            raise ValueError(f"this server may have 1 to {most} workers, not {count!r}")
        self.count = count
        self._parent.call(lambda: self._parent.resize(count))

    # -- its life

    def get_ready(self) -> None:
        self.owner = threading.get_ident()
        parent = self._parent
        while not (parent.serves or parent.is_over()):
            parent.turn()
        if parent.failure is not None:
            raise parent.failure

    def run(self) -> bool:
        parent = self._parent
        try:
            self.get_ready()
            self._is_ready.set()
            while not parent.is_over():
                parent.turn()
        finally:
            self.stopped = parent.stopped
            self.close()
        if parent.failure is not None:
            raise parent.failure
        return parent.drained

    def start(self) -> None:
        """Run in the background; returns once every worker serves.

        Raises:
            WorkerFailed: one cannot.
        """
        super().start()
        try:
            self._is_ready.wait()
        except BaseException:
            self.abort()
            self.join()
            raise
        self.join(0)  # which raises why it has ended, if it has

    def _run_in_thread(self) -> None:
        try:
            super()._run_in_thread()
        finally:
            self._is_ready.set()
            self.on_end()

    def stop(self) -> None:
        self._parent.ending.stop_asked = True
        self._waker.wake()

    def drain(self, timeout: float | None = None) -> None:
        ending = self._parent.ending
        if timeout is not None and not ending.drain_asked:
            ending.timeout = timeout
        ending.drain_asked = True
        self._waker.wake()

    def abort(self) -> None:
        self._parent.ending.stop_asked = self._parent.ending.abort_asked = True
        self._waker.wake()

    def signal_fileno(self) -> int:
        return self._waker.signal_fileno()

    def stats(self) -> Stats:
        return self._parent.stats()

    def close(self) -> None:
        if self.is_copy():  # of what is the first process's: its workers are none of ours
            self._places.abandon()
            return
        self._parent.close()
        self._places.close()
        self._waker.close()
        self.owner = None


def workers_on(chosen: type[Engine]) -> type[Workers]:
    """Return the class whose workers have some engine: by name and model it is that engine."""

    class On(Workers):
        name: ClassVar[str] = chosen.name
        model: ClassVar[str] = chosen.model
        capabilities: ClassVar[frozenset[str]] = chosen.capabilities - _NOT_HERE

    return On
