"""What an engine promises: the base class of all of them, and the names of what they can do.

An engine is one implementation of one model. It is created, given listening sockets, run (in the
caller's thread, or in the background), and stopped; it cannot be run twice. Everything above it
(``Server``, the command line, the comparison) uses what stands here and nothing else.

A third party's engine derives from :class:`Engine`, is named in the entry-point group
``muxcore.engines``, and proves itself with the suites in ``muxcore.testing``.
"""

from __future__ import annotations

import abc
import dataclasses
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from muxcore import _forks
from muxcore.address import Address
from muxcore.errors import CapabilityMissing
from muxcore.limits import Limits, seconds
from muxcore.protocol import Handle, ServerCalls, Service
from muxcore.stats import Stats

logger = logging.getLogger("muxcore")

CAPABILITIES = {
    "adopt": "server.adopt() takes connected sockets while it runs",
    "connect": "outgoing connections",
    "drain": "clients may finish in a drain; else it is a stop",
    "edge_trigger": 'trigger="edge"',
    "flow_control": "pause_writing and resume_writing; write() never blocks",
    "guest": "it can run inside another event loop, such as asyncio's",
    "hears_resets": "a reset is heard while reading is paused, and after the peer's EOF",
    "half_close": "write_eof, and sending after the peer's EOF",
    "native_verbs": "verbs run without Python",
    "rates": "transport.limit()",
    "relay": "transport.relay()",
    "shared_state": "all connections live in one process and can reach one another",
    "threadsafe_calls": "call_soon_threadsafe()",
    "timers": "call_later()",
}
"""Every capability by name, with what it means."""


def _nobody(phase: str) -> None:
    """Stand in for who is told of the phases of an engine's end."""


class Host(Protocol):
    """A host loop: what an engine asks of somebody else's loop that it runs in, as a guest."""

    def watch(self, fd: int, call: Callable[[], object]) -> None:
        """Call ``call()`` whenever ``fd`` is readable: level-triggered, from the loop itself."""

    def forget(self, fd: int) -> None:
        """Watch it no longer; it is open until then."""

    def soon(self, call: Callable[[], object]) -> object:
        """Call ``call()`` before the loop next sleeps, and never from within this."""

    def later(self, delay: float, call: Callable[[], object]) -> Handle:
        """Call ``call()`` in ``delay`` seconds, a day at the most, unless that is cancelled."""


class Engine(abc.ABC):
    """One implementation of one model.

    Args:
        limits: the caps it keeps.
        trigger: "level", or "edge" where the engine has ``edge_trigger``.
        allow_threads: let an engine that forks start beside running threads.

    Raises:
        ValueError: an unknown trigger.
        CapabilityMissing: an edge trigger on an engine without it.
    """

    name: ClassVar[str]
    model: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]
    priority: ClassVar[int] = 0  # of a plug-in: above 0 it is among what "auto" may take
    count = 0  # processes that do its work; 0: it does that itself

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        if trigger not in ("level", "edge"):
            raise ValueError(f"trigger must be 'level' or 'edge', not {trigger!r}")
        if trigger == "edge":
            self.need("edge_trigger")
        self.limits = limits or Limits()
        self.trigger = trigger
        self.allow_threads = allow_threads
        self.server: ServerCalls = self  # what transport.server returns; Server puts itself here
        self.ending = False  # from then on nothing is connected to
        self.draining = False  # clients are asked to finish
        self.may_rest: set[object] = set()  # connections that draining() answered so for
        self.witnesses: dict[Any, Any] = {}  # of connections' ends: see parts/witnesses.py
        self.witnesses_limit = False  # one of them has had rates
        self.stopped = 0  # clients that a drain has ended because its time was over
        self.on_phase: Callable[[str], object] = _nobody  # see drain()
        # ident of the thread that runs it; None: nobody does; 0: its thread is starting, or its
        # host is at something else
        self.owner: int | None = None
        self.process = _forks.current  # that it belongs to: in a fork it is a copy
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None  # what ended it, where that was an error
        self._untold: BaseException | None = None  # the same, until join() has raised it
        self._drained = True

    @classmethod
    def unavailable(cls) -> tuple[str, str] | None:
        """Return (reason, advice) where the engine cannot run on this system, else None."""
        return None

    def need(self, capability: str) -> None:
        """Raise ``CapabilityMissing`` unless the engine has the capability."""
        if capability not in self.capabilities:
            raise CapabilityMissing(
                f"engine {self.name!r} has no {capability} ({CAPABILITIES[capability]}): "
                "`muxcore engines` shows which have it"
            )

    def refuse_thread(self, what: str) -> None:
        """Raise if another thread runs the engine than this one.

        A caller compares ``owner`` with its own ident first: this is the slow path.

        Args:
            what: the call that was made, for the message.

        Raises:
            RuntimeError: it was made in another thread than the engine's.
        """
        if self.owner is not None and self.owner != threading.get_ident():
            raise RuntimeError(
                f"{what} in thread {threading.current_thread().name!r}, which is not the engine's: "
                f"use server.call_soon_threadsafe(…) to have it called there"
            )

    def is_copy(self) -> bool:
        """Whether this process is a fork of the one that the engine belongs to."""
        return _forks.current is not self.process

    def settle(self) -> None:
        """Belong to this process, which may be a fork of the one that made the engine.

        Called before :meth:`listen`.
        """
        self.process = _forks.current

    def refuse_ended(self) -> None:
        """Raise ``RuntimeError`` if the engine has ended: nobody would do what is asked for."""
        if self.ending and self.owner is None:
            raise RuntimeError("the server has ended")

    def count_in(self, cell: Stats) -> None:
        """Count in ``cell`` from now on, which other processes see; before :meth:`listen`.

        Here it does not: a worker with an engine that cannot do so counts nothing for its parent.
        """
        return

    def beside(self) -> Sequence[socket.socket]:
        """Return what the engine itself has bound beside what it was given to listen on."""
        return ()

    def balance_with(self, cells: Any, mine: int) -> None:
        """Take no client whom a worker with fewer of them can take; before :meth:`listen`.

        Here all are taken that come.

        Args:
            cells: what each counts in: ``muxcore.parts.cells.Cells``.
            mine: the number of its own.
        """
        return

    # -- what it serves

    @abc.abstractmethod
    def listen(self, sock: socket.socket, service: Service) -> None:
        """Serve what connects to a listening socket, which the engine owns from now on.

        Called before :meth:`run`.
        """

    def listen_also(self, sock: socket.socket, service: Service) -> None:
        """Do the same while it runs, in its thread, unless it is ending: then the socket is closed.

        Raises:
            CapabilityMissing: it cannot.
        """
        sock.close()
        raise CapabilityMissing(f"engine {self.name!r} takes no listener while it runs")

    @abc.abstractmethod
    def adopt(self, sock: socket.socket, service: Service) -> None:
        """Serve a socket that is connected already, of which the caller's object is closed by this.

        From any thread; before or while the engine runs.

        Raises:
            RuntimeError: the engine has ended, or its queue is full; the socket stays as it was.
        """

    @abc.abstractmethod
    def connect(
        self, address: str | int | Address, service: Service, timeout: float | None = None
    ) -> Handle:
        """Open a connection and serve it; for callbacks.

        Args:
            address: as in ``Server``; a name is looked up in a thread, and all its addresses tried.
                An answer may be a second old, and an hour where the resolver says nothing now: who
                cannot have that looks it up himself and gives an address.
            service: its protocol gets ``connection_made``, or ``connection_lost(exc)`` alone where
                there is no connection; after ``cancel()`` it is not even called.
            timeout: seconds for all of it; None means ``Limits.connect_timeout``.

        Raises:
            AddressError: the address is malformed.
            ServiceError: the service is not callable.
            TypeError, ValueError: the timeout is no time.
            CapabilityMissing: the engine has no ``connect``.
            RuntimeError: the engine has ended.
        """

    def connect_side(
        self, address: Address, service: Service, timeout: float | None = None
    ) -> Handle:
        """Open a connection that is only to be a relay's other side: the same, or with less of it.

        What its protocol's ``connection_made`` gets may be given to ``relay()``, or aborted; its
        protocol may be set; and nothing else.
        """
        return self.connect(address, service, timeout)

    def _time_to_connect(self, timeout: float | None) -> float:
        return self.limits.connect_timeout if timeout is None else seconds("a timeout", timeout)

    # -- calls

    @abc.abstractmethod
    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        """Run ``call(*args)`` in ``delay`` seconds, in the engine's thread; for callbacks."""

    @abc.abstractmethod
    def call_soon_threadsafe(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` in the engine's thread soon; from any thread or signal handler."""

    # -- its life

    def get_ready(self) -> None:
        """Do what is to be done before anybody is told that it serves; before :meth:`run`.

        In its thread; a stop may come meanwhile, and ends it early. Here nothing is to be done.
        """
        return

    @abc.abstractmethod
    def run(self) -> bool:
        """Serve in this thread until :meth:`stop`.

        Returns:
            Whether every connection had sent all its bytes when it was closed.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Ask for an end: listeners close, what is queued is sent for ``Limits.stop_timeout``.

        From any thread and in signal handlers: it takes no lock and does not wait.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Ask for an end that waits for nothing; as callable as :meth:`stop`."""

    def drain(self, timeout: float | None = None) -> None:
        """Ask for an end for which clients may finish first; as callable as :meth:`stop`.

        A stop cuts it short. Here it is a stop; an engine with the capability ``drain`` sets
        ``draining``, and ``stopped`` in the end, and calls ``on_phase`` in its own thread: with
        "draining" when it begins, "closed" when its listeners are, "over" when its time is, and
        "ending" when a stop begins, by whomever.

        Args:
            timeout: seconds that they have; None means ``Limits.drain_timeout``.
        """
        self.stop()

    def skip_delay(self) -> None:
        """Let no drain wait for ``Limits.drain_delay``: another process accepts what comes."""
        self.limits = dataclasses.replace(self.limits, drain_delay=0.0)

    def call_from_signal(self, call: Callable[[], object]) -> None:
        """Make a call where nothing of the engine's is under way; for signal handlers; here now."""
        call()

    def alarm(self, delay: float, call: Callable[..., object], *args: Any) -> Handle:
        """Make a call of the server's own in so many seconds, in the engine's thread.

        Raises:
            CapabilityMissing: the engine has no ``timers``, and no alarms either.
        """
        self.need("timers")
        return self.call_later(delay, call, *args)

    def resize(self, count: int) -> None:
        """Have so many processes do its work; here there are none.

        Raises:
            RuntimeError: it does that itself.
        """
        raise RuntimeError("this server has no workers: make it with workers=…")

    def tell_workers(self, word: str) -> None:
        """Tell the processes that do its work to "reload" or "reopen"; here there are none."""
        return

    def renew(self, news: bytes) -> None:
        """Let the processes that do its work have the services as they are now; here are none.

        Args:
            news: what those that serve are to be told: see ``Server``.
        """
        return

    def tell_workers_of(self, serves: Callable[[Any], object]) -> None:
        """Have ``serves(worker)`` called for each such process that serves, now and later."""
        return

    @abc.abstractmethod
    def signal_fileno(self) -> int:
        """Return the descriptor that ``signal.set_wakeup_fd`` writes to, to wake the engine."""

    @abc.abstractmethod
    def stats(self) -> Stats:
        """Return a snapshot of the counters; from any thread."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what was never run: listeners and the like. Idempotent; run() ends with it."""

    def be_guest(self, host: Host, ended: Callable[[BaseException | None], object]) -> None:
        """Run in somebody else's loop, in the thread of this call, until :meth:`stop`.

        Args:
            host: the loop; an engine has one in its life.
            ended: called once, when all is closed: with what ended the engine, where that was an
                error, or what a callback raised that means the program.

        Raises:
            CapabilityMissing: the engine cannot be a ``guest``.
        """
        self.need("guest")
        raise NotImplementedError(f"engine {self.name!r} does not do what its capability says")

    def start(self) -> None:
        """Run in the background; here a daemon thread, where a model needs it something else."""
        name = f"muxcore-{self.name}"
        self.owner = 0
        self._thread = threading.Thread(target=self._run_in_thread, name=name, daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until what :meth:`start` began has ended; False if it goes on after ``timeout``.

        Raises:
            BaseException: what ended the engine, if that was an error.
        """
        if self._thread is not None:
            self._thread.join(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            if self._thread.is_alive():
                return False
        untold, self._untold = self._untold, None
        if untold is not None:
            raise untold
        return True

    @property
    def thread(self) -> threading.Thread | None:
        """The background thread, where there is one."""
        return self._thread

    @property
    def failure(self) -> BaseException | None:
        """What ended it in the background, where that was an error."""
        return self._failure

    @property
    def drained(self) -> bool:
        """After its end: whether every connection had sent all its bytes."""
        return self._drained

    def _run_in_thread(self) -> None:
        try:
            self._drained = self.run()
        except BaseException as exc:
            self._failure = self._untold = exc
            self._drained, self.owner = False, None
            logger.critical(
                "engine %s has ended by an error: its server serves nobody any more",
                self.name,
                exc_info=exc,
            )
