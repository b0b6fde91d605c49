"""The process model: a child per client, which makes plain blocking calls.

What to know of it:

- fork() copies the process: a child costs a good part of a millisecond and some memory, whether its
  client says much or little. The kernel schedules the clients, and one that blocks blocks nobody
  else.
- fork() copies one thread only. A lock that another thread held at that moment stays locked in the
  child for ever, so this engine does not start beside running threads: ``serve()`` forks from the
  main thread, ``Server`` forks one acceptor at its start, and that one forks the children.
- A child that ends stays a zombie until its parent waits for it: see ``children.py``.
- A descriptor that both sides hold is closed only when both close it: the parent closes the
  client's after the fork, and the child closes the listeners.
- ``SystemExit`` and ``KeyboardInterrupt`` in a callback end the program that the callback runs in,
  and that is the client's own process: its connection is gone, and the server goes on.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from muxcore import _forks
from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import EngineUnavailable
from muxcore.limits import Limits
from muxcore.parts import dispatch, opening
from muxcore.parts.signals import TO_OTHERS, ServerSignals, leave_to_parent
from muxcore.protocol import Handle, Service
from muxcore.pure.acceptor import Acceptor
from muxcore.pure.child import Child
from muxcore.pure.forking import end_with_parent, exit_with, flush
from muxcore.pure.forking_loop import ForkingLoop
from muxcore.pure.shared_counters import STOPPING
from muxcore.stats import Stats

_HANDLED = (signal.SIGINT, signal.SIGTERM, *TO_OTHERS)
_CUT_SHORT = 3  # the acceptor's exit status when a connection did not drain


class ProcessEngine(ForkingLoop):
    """A process per client, forked when it connects."""

    name = "pure-process"
    model = "process"
    capabilities: ClassVar[frozenset[str]] = frozenset({"connect", "drain", "half_close", "relay"})

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        if hasattr(os, "fork"):
            return None
        return "it needs fork(), which this system does not have", "take pure-select"

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self._acceptor: Acceptor | None = None  # after start()
        self._child: Child | None = None  # in a child: what it does

    # -- what it serves

    def listen(self, sock: socket.socket, service: Service) -> None:
        self._listeners[sock.fileno()] = (sock, service)

    def listen_also(self, sock: socket.socket, service: Service) -> None:
        if self._drain_asked or self._stop_asked:
            sock.close()
        else:
            self.listen(sock, service)

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
        return super().run()

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
        self._drained, self.stopped = status == 0, self._counters.stopped
        if status not in (0, _CUT_SHORT) and self._failure is None:
            self._failure = self._untold = RuntimeError(
                f"the acceptor process ended with status {status}: see its log"
            )

    def stop(self) -> None:
        self._stop_asked = True
        if self._child is not None and not self.is_copy():
            # a callback asks: the signal alone would mean a drain
            self._counters.phase = STOPPING
        self._tell(b"s")

    def abort(self) -> None:
        self._abort_asked = True
        self.stop()
        self._tell(b"a")

    def drain(self, timeout: float | None = None) -> None:
        if self._counters.phase == STOPPING:
            self.stop()
            return
        if self._counters.timeout is None:
            self._counters.timeout = timeout
        self._drain_asked = True
        self._tell(b"d")

    def call_from_signal(self, call: Callable[[], object]) -> None:
        if self._acceptor is not None:  # there is no loop in this process
            call()
            return
        self._calls.append(call)
        self._waker.wake()

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

    def _fork_child(self, sock: socket.socket, peername: Any, service: Service) -> None:
        flush()
        slot = self._counters.take()
        # blocked until the child has handlers of its own: a stop in between would be lost
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                exit_with(lambda: self._serve_client(sock, peername, service, slot, before))
            self._children.add(pid, slot)
        except OSError:
            self._counters.give_back(slot, "fork")
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # -- in the acceptor

    def _accept_until_told(self, control: socket.socket) -> int:
        self._control = control
        self.process = _forks.current
        for sock, _ in self._listeners.values():
            opening.inherit(sock)
        self.on_phase = _nobody_hears  # here; the parent has told when it asked
        with ServerSignals(self.signal_fileno(), lambda number: self.drain(), self.abort):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent decides
            return 0 if self.run() else _CUT_SHORT

    def _obey(self) -> None:
        """Read the parent's orders; EOF means that it is gone, and no more of them will come."""
        orders = self._control.recv(16) if self._control is not None else b""
        if not orders:
            self._close_control()
        self._drain_asked = self._drain_asked or b"d" in orders
        self._stop_asked = self._stop_asked or not orders or bool(orders.strip(b"d"))
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
        leave_to_parent()
        for listener, _ in self._listeners.values():
            listener.close()
        self._waker.close()
        self._close_control()
        child = self._child = Child(self, self._counters, slot)
        made = dispatch.made_for(service, lambda protocol: protocol, child.failed)
        if made is None:
            return 1

        def terminate(number: int, frame: FrameType | None) -> None:
            if self.is_copy():  # a callback has forked: that is no child of ours
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            child.terminate(self._parent)

        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGURG, lambda number, frame: child.look())  # it is nudged
        child.look()
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
            self.on_phase("draining" if order == b"d" else "ending")
            self._acceptor.tell(order)

    def _refuse_threads(self) -> None:
        others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        if others and not self.allow_threads:
            raise EngineUnavailable(
                self.name,
                f"it forks, and a fork beside running threads can deadlock: {', '.join(others)}",
                "start it before them, or pass allow_threads=True if they hold no locks",
            )


def _nobody_hears(phase: str) -> None:
    """Stand in for who is told of the phases."""
