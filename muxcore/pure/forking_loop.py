"""The loop of the process that forks: it accepts, waits for its children, and ends them.

With a background server that is the acceptor, which has orders of its parent to obey.
"""

from __future__ import annotations

import abc
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from muxcore.abc import Engine
from muxcore.limits import Limits
from muxcore.parts import dispatch, draining, opening, sockets
from muxcore.parts.balance import PAUSE, Balance
from muxcore.parts.cells import Cells
from muxcore.parts.timers import Timer, Timers
from muxcore.parts.waker import Waker
from muxcore.protocol import Service
from muxcore.pure.children import Children
from muxcore.pure.forking import sigchld_wakes
from muxcore.pure.shared_counters import SharedCounters
from muxcore.stats import Stats

_NUDGE = 0.1  # s between the nudges of a child that was told to end
_TICK = 1.0  # s; an end that no SIGCHLD told of is noticed by then
_KILL_AFTER = 0.5  # s between the second SIGTERM, which cuts the connection, and SIGKILL


class ForkingLoop(Engine):
    """What the forking process does; ``ProcessEngine`` is the rest, and what the others do."""

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        cap = min(self.limits.processes, self.limits.connections)
        self._counters = SharedCounters(cap)
        self._waker = Waker()
        self._children = Children(self._counters)
        self._listeners: dict[int, tuple[socket.socket, Service]] = {}
        self._balance: Balance | None = None
        self._rest_until = 0.0  # after accept or fork failed, or for another worker
        self._failing = False
        self._drain_asked = self._stop_asked = self._abort_asked = False
        self._steps: Iterator[float] | None = None  # of a drain
        self._step_at = 0.0  # monotonic()
        self._calls: deque[Callable[[], object]] = deque()  # from signal handlers
        self._alarms = Timers(0)
        self._wakened = False  # SIGCHLD wakes us; else every turn has to look for ended children
        self._parent = 0  # pid of the process that forks the children, while it runs
        self._control: socket.socket | None = None  # in the acceptor: to its parent

    @abc.abstractmethod
    def _fork_child(self, sock: socket.socket, peername: Any, service: Service) -> None:
        """Give a client a process."""

    @abc.abstractmethod
    def _obey(self) -> None:
        """Read the parent's orders."""

    def count_in(self, cell: Stats) -> None:
        self._counters.count_in(cell)

    def balance_with(self, cells: Cells, mine: int) -> None:
        self._balance = Balance(cells, mine)

    # -- its life

    def run(self) -> bool:
        self._parent = os.getpid()
        self.owner = threading.get_ident()
        try:
            with sigchld_wakes(self._children.look_soon) as self._wakened:
                while not self._stop_asked:
                    self._turn()
                    if self._drain_asked:
                        self._drain_on()
                return self._wind_down()
        finally:
            self._counters.stopped = self.stopped
            self.close()

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        return self._alarms.add_own(delay, call, *args)

    # -- one turn

    def _turn(self) -> None:
        rests = time.monotonic() < self._rest_until
        ready = self._wait()
        if not self._wakened or self._children.is_look_due():
            self._children.reap()
        if self._balance is not None and not rests and self._listeners.keys().isdisjoint(ready):
            self._balance.nobody_waits()
        for fd in ready:
            if fd == self._waker.fileno():
                self._woken()
            elif fd in self._listeners:
                self._accept(*self._listeners[fd])
            else:
                self._obey()
        self._alarms.run_due()

    def _wait(self) -> list[int]:
        """Wait for clients while there is room for them, for children that end, and for orders."""
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        if self._control is not None:
            poll.register(self._control.fileno(), select.POLLIN)
        alarm = self._alarms.delay()
        timeout = min(_TICK, self._until_step(), _TICK if alarm is None else alarm)
        rest = self._rest_until - time.monotonic()
        if rest > 0:
            timeout = min(timeout, rest)
        elif self._counters.room():
            for fd in self._listeners:
                poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(timeout * 1000)]

    def _accept(self, listener: socket.socket, service: Service) -> None:
        """Give each client that waits a child."""
        for _ in range(self.limits.accepts_per_turn):
            if not self._counters.room():
                return
            if self._balance is not None and not self._balance.may_accept():
                self._rest_until = time.monotonic() + PAUSE
                return
            try:
                accepted = sockets.accept(listener)
                if accepted is None:
                    return
                with accepted[0]:  # the parent's copy is closed at the end of the block
                    self._fork_child(*accepted, service)
            except (sockets.OutOfResources, OSError) as exc:
                self._rest(exc)
                return
            self._failing = False

    def _rest(self, exc: Exception) -> None:
        """Stop asking for a while: the kernel would answer the same at full speed."""
        self._counters.count("accept")
        if not self._failing:
            dispatch.logger.warning(
                "accept failed (%s): trying again every %g s", exc, self.limits.accept_pause
            )
        self._failing = True
        self._rest_until = time.monotonic() + self.limits.accept_pause

    # -- its end

    def _wind_down(self) -> bool:
        """Close the listeners, then end the children: kindly, firmly, and at last by force."""
        self.on_phase("ending")
        self.take_nobody()
        self._children.begin_end()
        drained = self._end_children(signal.SIGTERM, self.limits.stop_timeout)
        drained = drained and not self.stopped
        drained = self._end_children(signal.SIGTERM, _KILL_AFTER) and drained
        return self._end_children(signal.SIGKILL, None) and drained

    def _end_children(self, number: signal.Signals, wait: float | None) -> bool:
        """Signal every child, and wait; return whether none is left. An abort ends the wait."""
        self._children.reap()
        self._children.signal(number)
        deadline = None if wait is None else time.monotonic() + wait
        while self._children:
            left = _TICK if deadline is None else deadline - time.monotonic()
            if left <= 0 or (self._abort_asked and deadline is not None):
                return False
            events = self._wait_briefly(min(left, _NUDGE))
            self._alarms.run_due()
            if not events:
                self._children.nudge()
            for fd in events:
                if fd == self._waker.fileno():
                    self._woken()
                else:
                    self._obey()
            self._children.reap()
        return True

    def _wait_briefly(self, seconds: float) -> list[int]:
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        if self._control is not None and not self._abort_asked:
            poll.register(self._control.fileno(), select.POLLIN)
        return [fd for fd, _ in poll.poll(min(seconds, _TICK) * 1000)]

    def _woken(self) -> None:
        self._waker.drain()
        while self._calls:
            dispatch.run_call(self._calls.popleft(), ())

    # -- a drain: see parts/draining.py

    def _until_step(self) -> float:
        """Return the seconds until its next step."""
        if not self._drain_asked:
            return math.inf
        return max(0.0, self._step_at - time.monotonic())

    def _drain_on(self) -> None:
        """Take the next step, if it is time; stop once the last client has gone."""
        if self._steps is None:
            self.draining = True
            self._steps = draining.steps(self, self._counters.timeout)
        if not self._until_step():
            wait = next(self._steps, math.inf)
            self._step_at = time.monotonic() + wait
        if self._children.is_nudge_due():
            self._children.nudge()
        if not (self._children or self._listeners):
            self._stop_asked = True

    def tell_draining(self) -> None:
        self._children.begin_drain()

    def take_nobody(self) -> None:
        for sock, _ in self._listeners.values():
            opening.close_listener(sock)
        self._listeners.clear()

    def stop_idle(self) -> None:
        self._children.stop_idle()

    def clients(self) -> int:
        return len(self._children)

    def stop_clients(self, most: int) -> int:
        return self._children.stop_some(most)
