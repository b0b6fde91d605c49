"""The process model: a child per client, which makes plain blocking calls.

What to know of it:

- fork() copies the process: a child costs a good part of a millisecond and some memory, whether its
  client says much or little. The kernel schedules the clients, and one that blocks blocks nobody
  else.
- fork() copies one thread only. A lock that another thread held at that moment stays locked in the
  child for ever, so this engine does not start beside running threads: ``serve()`` forks from the
  main thread, ``Server`` forks one acceptor at its start, and that one forks the children.
- A child that ends stays a zombie until its parent waits for it. The parent waits for its own
  children by their pids: waitpid(-1) would take the status of somebody else's.
- A descriptor that both sides hold is closed only when both close it: the parent closes the
  client's after the fork, and the child closes the listeners.
- ``SystemExit`` and ``KeyboardInterrupt`` in a callback end the program that the callback runs in,
  and that is the client's own process: its connection is gone, and the server goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from muxcore import _forks
from muxcore import address as addresses
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import EngineUnavailable
from muxcore.limits import Limits
from muxcore.parts import dispatch, opening, sockets
from muxcore.parts.signals import StopSignals
from muxcore.parts.waker import Waker
from muxcore.protocol import Handle, Service
from muxcore.pure.acceptor import Acceptor
from muxcore.pure.child import Child
from muxcore.pure.forking import end_with_parent, exit_with, flush, sigchld_wakes, signal_name
from muxcore.pure.shared_counters import SharedCounters
from muxcore.stats import Stats

_NUDGE = 0.1  # s between the nudges of a child that was told to end
_TICK = 1.0  # s; an end that no SIGCHLD told of is noticed by then
_KILL_AFTER = 0.5  # s between the second SIGTERM, which cuts the connection, and SIGKILL
_HANDLED = (signal.SIGINT, signal.SIGTERM)
_CUT_SHORT = 3  # the acceptor's exit status when a connection did not drain


class ProcessEngine(Engine):
    """A process per client, forked when it connects."""

    name = "pure-process"
    model = "process"
    capabilities: ClassVar[frozenset[str]] = frozenset({"connect", "half_close", "relay"})

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if hasattr(os, "fork"):
            return None
        return "it needs fork(), which this system does not have", "take pure-select"

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        cap = min(self.limits.processes, self.limits.connections)
        self._counters = SharedCounters(cap)
        self._waker = Waker()
        self._children: dict[int, int] = {}  # pid: slot
        self._listeners: dict[int, tuple[socket.socket, Service]] = {}
        self._rest_until = 0.0  # after accept or fork failed
        self._failing = False
        self._stop_asked = self._abort_asked = False
        self._wakened = False  # SIGCHLD wakes us; else every turn has to look for ended children
        self._look_at = 0.0  # when to look for ended children
        self._parent = 0  # pid of the process that forks the children, while it runs
        self._acceptor: Acceptor | None = None  # after start()
        self._child: Child | None = None  # in a child: what it does
        self._control: socket.socket | None = None  # in the acceptor: to its parent

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        self._listeners[sock.fileno()] = (sock, service)

    def adopt(self, sock: socket.socket, service: Service) -> None:
        self.need("adopt")

    def connect(
        self, address: str | int | Address, service: Service, timeout: float | None = None
    ) -> Handle:
        if self._child is None:
            raise RuntimeError("connect() is for callbacks, and those run in the children")
        seconds = self._time_to_connect(timeout)
        return self._child.connect(addresses.parse(address), service, seconds)

    # -- calls

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        self.need("timers")
        raise AssertionError("unreachable")

    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        self.need("threadsafe_calls")

    # -- its life

    def run(self) -> bool:
        self._refuse_threads()
        self._parent = os.getpid()
        self.owner = threading.get_ident()
        try:
            with sigchld_wakes(self._look_soon) as self._wakened:
                while not self._stop_asked:
                    self._turn()
                return self._wind_down()
        finally:
            self.close()

    def start(self) -> None:
        """Fork the acceptor: a process without threads, which forks the children."""
        self._refuse_threads()
        self._acceptor = Acceptor(self._accept_until_told)
        for sock, _ in self._listeners.values():
            sock.close()  # the acceptor has its own; a unix path is its to remove
        self._listeners.clear()

    def join(self, timeout: float | None = None) -> bool:
        if self._acceptor is None:
            return True
        status = self._acceptor.wait(timeout)
        if status is None:
            return False
        self._acceptor_ended(status)
        untold, self._untold = self._untold, None
        if untold is not None:
            raise untold
        return True

    @property
    def failure(self) -> BaseException | None:
        """What ended the acceptor, where that was an error, which it has logged if it could."""
        status = None if self._acceptor is None else self._acceptor.wait(0)
        if status is not None:
            self._acceptor_ended(status)
        return self._failure

    def _acceptor_ended(self, status: int) -> None:
        self.close()
        self._drained = status == 0
        if status not in (0, _CUT_SHORT) and self._failure is None:
            self._failure = self._untold = RuntimeError(
                f"the acceptor process ended with status {status}: see its log"
            )

    def stop(self) -> None:
        self._stop_asked = True
        self._tell(b"s")

    def abort(self) -> None:
        self._abort_asked = self._stop_asked = True
        self._tell(b"a")

    def signal_fileno(self) -> int:
        return self._waker.signal_fileno()

    def stats(self) -> Stats:
        return self._counters.snapshot()

    def close(self) -> None:
        for sock, _ in self._listeners.values():
            opening.close_listener(sock)
        self._listeners.clear()
        self._waker.close()
        self._close_control()
        self.owner = None

    # -- one turn

    def _turn(self) -> None:
        ready = self._wait()
        if not self._wakened or time.monotonic() >= self._look_at:
            self._reap()
        for fd in ready:
            if fd == self._waker.fileno():
                self._waker.drain()
            elif fd in self._listeners:
                self._accept(*self._listeners[fd])
            else:
                self._obey()

    def _wait(self) -> list[int]:
        """Wait for clients while there is room for them, for children that end, and for orders."""
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        if self._control is not None:
            poll.register(self._control.fileno(), select.POLLIN)
        timeout = _TICK
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

    def _fork_child(self, sock: socket.socket, peername: Any, service: Service) -> None:
        flush()
        slot = self._counters.take()
        # blocked until the child has handlers of its own: a stop in between would be lost
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                exit_with(lambda: self._serve_client(sock, peername, service, slot, before))
            self._children[pid] = slot
        except OSError:
            self._counters.give_back(slot, "fork")
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _rest(self, exc: Exception) -> None:
        """Stop asking for a while: the kernel would answer the same at full speed."""
        self._counters.count("accept")
        if not self._failing:
            dispatch.logger.warning(
                "accept failed (%s): trying again every %g s", exc, self.limits.accept_pause
            )
        self._failing = True
        self._rest_until = time.monotonic() + self.limits.accept_pause

    def _look_soon(self) -> None:
        """A child has ended, whosever it is."""
        self._look_at = 0.0

    def _reap(self) -> None:
        """Wait for those of our children that have ended, and for nobody else's."""
        self._look_at = time.monotonic() + _TICK  # first: a signal may come meanwhile
        for pid in list(self._children):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # the program waited for any child, and took ours
                ended, status = pid, 0
            if ended:
                code = os.waitstatus_to_exitcode(status)
                killed = f"killed by {signal_name(-code)}" if code < 0 else ""
                failed = f"ended with status {code}" if code > 0 else ""
                self._counters.give_back(self._children.pop(pid), killed, or_else=failed)

    def _wind_down(self) -> bool:
        """Close the listeners, then end the children: kindly, firmly, and at last by force."""
        for sock, _ in self._listeners.values():
            opening.close_listener(sock)
        self._listeners.clear()
        drained = self._end_children(signal.SIGTERM, self.limits.drain_timeout)
        drained = self._end_children(signal.SIGTERM, _KILL_AFTER) and drained
        return self._end_children(signal.SIGKILL, None) and drained

    def _end_children(self, number: signal.Signals, wait: float | None) -> bool:
        """Signal every child, and wait; return whether none is left. An abort ends the wait."""
        self._reap()
        self._signal_children(number)
        deadline = None if wait is None else time.monotonic() + wait
        while self._children:
            left = _TICK if deadline is None else deadline - time.monotonic()
            if left <= 0 or (self._abort_asked and deadline is not None):
                return False
            events = self._wait_briefly(min(left, _NUDGE))
            if not events:
                # A signal that comes between Python's last look at its signals and recv(2) leaves
                # the child asleep: another one, which means nothing, lets it see the first.
                self._signal_children(signal.SIGURG)
            for fd in events:
                if fd == self._waker.fileno():
                    self._waker.drain()
                else:
                    self._obey()
            self._reap()
        return True

    def _signal_children(self, number: signal.Signals) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):  # the program has waited for it
                os.kill(pid, number)

    # -- in the acceptor

    def _accept_until_told(self, control: socket.socket) -> int:
        self._control = control
        self.process = _forks.current
        for sock, _ in self._listeners.values():
            opening.inherit(sock)
        with StopSignals(self.signal_fileno(), self.stop, self.abort):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent decides
            return 0 if self.run() else _CUT_SHORT

    def _obey(self) -> None:
        """Read the parent's orders; EOF means that it is gone, and no more of them will come."""
        orders = self._control.recv(16) if self._control is not None else b""
        if not orders:
            self._close_control()
        self._stop_asked = True
        self._abort_asked = self._abort_asked or b"a" in orders

    # -- in a child

    def _serve_client(
        self,
        sock: socket.socket,
        peername: Any,
        service: Service,
        slot: int,
        mask: set[int | signal.Signals],
    ) -> int:
        self.process, self.owner = _forks.current, threading.get_ident()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for listener, _ in self._listeners.values():
            listener.close()
        self._waker.close()
        self._close_control()
        child = self._child = Child(self, self._counters, slot)
        made = dispatch.made_for(service, lambda protocol: protocol, child.failed)
        if made is None:
            return 1

        def stop(number: int, frame: FrameType | None) -> None:
            if self.is_copy():  # a callback has forked: that is no child of ours
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            child.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGURG, _nothing)
        # as the program has it, but for the one signal by which we end a child
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - {signal.SIGTERM})
        end_with_parent(self._parent, child.stop)
        child.serve(sock, peername, *made)
        return 0

    # -- small things

    def _close_control(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()

    def _tell(self, order: bytes) -> None:
        if self._child is not None and not self.is_copy():  # a callback asks for the server's end
            os.kill(self._parent, signal.SIGTERM)
        self._waker.wake()
        if self._acceptor is not None:
            self._acceptor.tell(order)

    def _wait_briefly(self, seconds: float) -> list[int]:
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        if self._control is not None and not self._abort_asked:
            poll.register(self._control.fileno(), select.POLLIN)
        return [fd for fd, _ in poll.poll(min(seconds, _TICK) * 1000)]

    def _refuse_threads(self) -> None:
        others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        if others and not self.allow_threads:
            raise EngineUnavailable(
                self.name,
                f"it forks, and a fork beside running threads can deadlock: {', '.join(others)}",
                "start it before them, or pass allow_threads=True if they hold no locks",
            )


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handle a nudge: that it interrupted a system call is all it is for."""
