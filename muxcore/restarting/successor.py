"""Who is started to take over from this process, and what becomes of it.

::

    begin() ──► it starts ── "ready" ──► it has taken over: this process drains
                   │
                   └── it ends, closes the channel, or says nothing in time: this one serves on

Init, the first process of a container, must not end: all others would be killed. So its successor
is a child that serves meanwhile. Init drains, and then it executes the program itself, which takes
over from that child in the same way, and waits for its end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from muxcore.abc import logger
from muxcore.errors import CapabilityMissing
from muxcore.parts.channel import Channel, Message, Orders
from muxcore.parts.first import ours
from muxcore.parts.notify import notify
from muxcore.parts.processes import signal_name
from muxcore.restarting import handed, program
from muxcore.restarting.predecessor import INIT, predecessor

if TYPE_CHECKING:
    import subprocess

_LOOK = 0.02  # s between two looks at whether it has ended: the channel is closed a little earlier
_LIVES_ON = 1.0  # s after the channel was closed: then it has not ended
_KILL_AFTER = 30.0  # s that it has after SIGTERM, for clients that it may have taken


class _Successor:
    """One of them.

    Attributes:
        process: what was started; None: init, which has taken the place of a child of its own.
        pid: its number.
        channel: to it.
        orders: what comes through that.
        why: what it has said why it cannot serve.
        given_up: why it is to end.
        closed_at: monotonic(), when it has closed the channel.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = INIT
        self.orders: Orders
        self.why = self.given_up = ""
        self.closed_at = 0.0


class Restart:
    """The restarts of this process, while it serves in its main thread.

    Args:
        soon: has something called in the loop's thread; called in signal handlers.
        later: the same in so many seconds; called in that thread.
        limit: seconds until a successor must be ready.
        taken_over: called with the pid of the one that has taken over: nobody new comes here.
        failed: called once one has failed, and this process serves on.

    Attributes:
        heir: the pid of the one that has taken over; 0: none has.
    """

    def __init__(
        self,
        soon: Callable[[Callable[[], object]], object],
        later: Callable[[float, Callable[[], object]], object],
        limit: float,
        taken_over: Callable[[int], object],
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        self._soon = soon
        self._later = later
        self._limit = limit
        self._taken_over = taken_over
        self._failed = failed
        self.heir = 0
        self._successor: _Successor | None = None
        self._init: Orders | None = None  # of the other one, where one of us is init
        self._reaps = 0  # the pid of the child that init has followed
        self._is_lent = False  # init drains, and will take over from this process
        self._ends = False  # an end was asked for

    # -- before there is a successor

    def serves(self) -> None:
        """Tell who has started this process that it serves; in the main thread."""
        channel = predecessor.ready()
        if channel is None:
            return
        if os.getpid() == INIT:
            program.let_signals_come()
            self._reaps = predecessor.pid
        else:
            self._is_lent = True
        self._init = Orders(channel, lambda message: self._soon(lambda: self._init_says(message)))
        self._init.begin()

    def _init_says(self, message: Message | None) -> None:
        """Hear of init, or, as init, of the child that it has followed."""
        if message is not None:
            if message.word == "succeed":
                self._succeed(Channel(socket.socket(fileno=message.descriptors["channel"])))
            return
        self._is_lent = False
        if self._init is not None:
            self._init.end()
        self._reap()

    def _reap(self) -> None:
        if self._reaps and _wait_for(self._reaps, os.WNOHANG):
            self._reaps = 0
        if self._reaps:
            self._later(_LOOK, self._reap)

    # -- one starts

    def begin(self, by: str) -> None:
        """Start a successor, unless there is one; in the main thread, which is the loop's.

        Args:
            by: who asks for it, for the log.
        """
        there = self._successor
        if program.why_not:
            logger.info("%s: nothing to do: %s", by, program.why_not)
        elif self.heir:
            logger.info("%s: nothing to do: process %d has taken over", by, self.heir)
        elif self._ends:
            logger.info("%s: nothing to do: this process is ending", by)
        elif there is not None:
            what = "ending" if there.given_up else "starting to take over"
            logger.info("%s: process %d is already %s", by, there.pid, what)
        elif self._is_lent:
            logger.warning("%s: process 1 is to take over first: try again after that", by)
            self._failed()
        else:
            self._start(by)

    def _start(self, by: str) -> None:
        channel, theirs = Channel.pair()
        successor = _Successor(channel)
        over = f"{self._limit:g} s have passed"
        with theirs:
            try:
                self._later(self._limit, lambda: self._give_up(successor, over))
                if not channel.send("sockets", handed.descriptors(), pid=os.getpid()):
                    raise OSError("the listening sockets cannot be handed over")
                successor.process = program.start(theirs)
            except (OSError, CapabilityMissing) as exc:  # an engine may have no clock
                channel.close()
                logger.error("%s: no successor can be started: %s; serving on", by, exc)
                self._failed()
                return
        successor.pid = successor.process.pid
        ours.add(successor.pid)
        logger.info("%s: process %d is starting to take over", by, successor.pid)
        self._hear_of(successor)

    def _succeed(self, channel: Channel) -> None:
        """Hand over to init, which has executed the program."""
        channel.send("sockets", handed.descriptors(), pid=os.getpid())
        logger.info("process %d is starting to take over again", INIT)
        self._is_lent = False
        self._hear_of(_Successor(channel))

    def _hear_of(self, successor: _Successor) -> None:
        self._successor = successor
        successor.orders = Orders(
            successor.channel, lambda message: self._soon(lambda: self._heard(successor, message))
        )
        successor.orders.begin()

    def _heard(self, successor: _Successor, message: Message | None) -> None:
        if successor is not self._successor:
            return
        if message is None:
            successor.closed_at = monotonic()
            self._look(successor)
        elif message.word == "failed":
            successor.why = message.details["text"]
        elif message.word == "ready" and not (successor.given_up or self._ends):
            self._hand_over(successor)

    def _hand_over(self, successor: _Successor) -> None:
        self.heir = successor.pid
        handed.disown()
        if os.getpid() != INIT:
            if successor.process is not None:
                successor.orders.end()
                successor.process.returncode = 0  # it outlives us: nobody is to warn of that
            notify(f"MAINPID={self.heir}")
        self._taken_over(self.heir)

    # -- it fails

    def _look(self, successor: _Successor) -> None:
        """See what has become of one that says nothing any more."""
        process = successor.process
        status = None if process is None else process.poll()
        if self.heir or process is None:
            return
        if status is not None:
            self._ended(successor, status)
            return
        if monotonic() - successor.closed_at > _LIVES_ON:
            self._give_up(successor, "it has closed its channel")
        self._later(_LOOK, lambda: self._look(successor))

    def _give_up(self, successor: _Successor, why: str) -> None:
        process = successor.process
        if successor is self._successor and process and not (self.heir or successor.given_up):
            successor.given_up = why
            process.terminate()
            self._later(_KILL_AFTER, process.kill)

    def _ended(self, successor: _Successor, status: int) -> None:
        successor.orders.end()
        self._successor = None
        if self._ends:
            return
        how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        if successor.given_up:
            how = f"was ended, since {successor.given_up}"
        why = successor.why and f" ({successor.why})"
        logger.error("process %d %s before it was ready%s: serving on", successor.pid, how, why)
        self._failed()

    # -- the end of this process

    def cancel(self, number: signal.Signals) -> None:
        """The service is to end: so is a successor that has not taken over, or that init has."""
        self._ends = True
        there = self._successor
        if there and there.process and (not self.heir or os.getpid() == INIT):
            there.process.send_signal(number)

    def end(self) -> None:
        """This process has nobody any more: leave nobody behind.

        Init does not end while others serve: it becomes the program that its successor runs. Where
        an end was asked for it waits for the others.
        """
        there = self._successor
        if there is not None and there.process is not None:
            if not (self.heir or self._ends):
                there.process.terminate()
            if os.getpid() == INIT:
                if self.heir and not self._ends:
                    self._become(there)
                there.process.wait()
        if self._reaps:
            _wait_for(self._reaps)
        for orders in (self._init, None if there is None else there.orders):
            if orders is not None:
                orders.end()

    def _become(self, there: _Successor) -> None:
        theirs, ours = Channel.pair()
        there.channel.send("succeed", {"channel": theirs.fileno()})
        theirs.close()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            program.become(ours)
        except OSError as exc:
            logger.critical("process 1 cannot become the program again: %s; it waits", exc)


def _wait_for(pid: int, flags: int = 0) -> bool:
    """Wait for a child's end; return whether it has come."""
    try:
        return os.waitpid(pid, flags)[0] != 0
    except ChildProcessError:  # somebody else has
        return True
