"""A loop that goes round turn by turn: in ``run()``, or as a guest in somebody else's loop.

A guest takes one bounded turn whenever there is something to do. The host watches one descriptor,
and keeps one timer. What these do not show makes the guest come by itself:

- What a turn has left, or a callback of it has begun: ``due()`` says so.
- What the host's own tasks do between two turns. The engine has no owner then, so whatever they
  call goes the slow way, ``refuse_thread``: there the guest hears of it, and comes before the host
  sleeps. Within a turn, and for all calls but the first, that costs nothing.

A fork of the host's process closes its copies, and leaves what the host watches alone: the kernel's
set is the parent's too.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from threading import get_ident
from time import monotonic

from muxcore.abc import Host
from muxcore.limits import Limits
from muxcore.parts.loop import LoopEngine
from muxcore.parts.timers import LONGEST_WAIT
from muxcore.protocol import Handle

_NOBODY = 0  # no thread has this ident


class TurningLoop(LoopEngine):
    """An engine whose loop is its own; arguments as of ``Engine``."""

    def __init__(
        self, limits: Limits | None = None, *, trigger: str = "level", allow_threads: bool = False
    ) -> None:
        super().__init__(limits, trigger=trigger, allow_threads=allow_threads)
        self._guest: Guest | None = None

    # -- what an engine fills in

    @abc.abstractmethod
    def begin(self) -> None:
        """Accept from now on."""

    @abc.abstractmethod
    def turn(self, wait: bool = True) -> None:
        """Wait for events, if that is wanted, and handle one batch of them, timers and calls."""

    @abc.abstractmethod
    def is_over(self) -> bool:
        """Return whether it is ending or retiring, and nobody is left; a drain stops it first."""

    def flush(self) -> None:
        """Send what was put off until the end of the turn; here nothing is."""

    def due(self) -> float | None:
        """Return in how many seconds a turn has something to do that ``watched()`` does not show.

        For a guest, between two turns.

        Returns:
            0: now, and what is to be watched may be another by then; None: never.
        """
        return 0.0 if self._calls else self.timers.delay()

    def watched(self) -> int:
        """Return the descriptor that is readable while a turn would bring something.

        Only a ``guest`` is asked: select(2) has none.
        """
        raise NotImplementedError(f"engine {self.name!r} has no descriptor to watch")

    # -- its life

    def run(self) -> bool:
        self.owner = get_ident()
        try:
            self.begin()
            while not self.is_over():
                self.turn()
        finally:
            self.close()
        return self._clean

    def be_guest(self, host: Host, ended: Callable[[BaseException | None], object]) -> None:
        self.need("guest")
        if self._guest is not None:
            raise RuntimeError("the engine is a guest already: it has one host in its life")
        self._guest = Guest(self, host, ended)
        self._guest.begin()

    def retire(self) -> None:
        """Accept nobody any more, and end once nobody is left; in the engine's thread.

        Nobody is hurried, unlike with ``stop()``: who is here goes on, and may still connect.
        """
        if get_ident() != self.owner:
            self.refuse_thread("retire()")
        self.take_nobody()

    def has_ended(self, exc: BaseException | None) -> None:
        """Keep how it ended as a guest, where no thread of its own does."""
        self._failure = exc
        self._drained = exc is None and self._clean

    def refuse_thread(self, what: str) -> None:
        if self._guest is None or not self._guest.was_called():
            super().refuse_thread(what)


class Guest:
    """One engine in its host.

    Args:
        engine: it.
        host: the loop, which calls in the thread of this call.
        ended: called once; see ``Engine.be_guest``.
    """

    def __init__(
        self, engine: TurningLoop, host: Host, ended: Callable[[BaseException | None], object]
    ) -> None:
        self._engine = engine
        self._host = host
        self._ended = ended
        self._thread = get_ident()
        self._fd = -1  # that is watched
        self._coming = False  # before the host sleeps
        self._timer: Handle | None = None
        self._timer_at = 0.0  # monotonic()

    def begin(self) -> None:
        self._engine.owner = self._thread
        self._engine.begin()
        self._watch()
        self._go_on()

    def was_called(self) -> bool:
        """Hear of a call that may come at a wrong time: it is good in this thread, between turns.

        Returns:
            Whether it is; then a turn follows.
        """
        if get_ident() != self._thread or self._engine.owner != _NOBODY or self._engine.is_copy():
            return False
        self._engine.owner = self._thread
        self._come_soon()
        return True

    # -- what the host calls

    def _turn(self) -> None:
        """There is something to do."""
        self._do(self._take_turn)

    def _come(self) -> None:
        """Something was begun between two turns, or left by the last one."""
        self._coming = False
        self._do(self._catch_up)

    def _wake(self) -> None:
        """A deadline may have come."""
        self._timer = None
        self._do(self._take_turn)

    def _do(self, work: Callable[[], object]) -> None:
        if self._fd < 0:
            return  # the host had queued this before the end
        self._engine.owner = self._thread
        try:
            work()
        except BaseException as exc:
            self._leave(exc)
        else:
            self._go_on()

    def _take_turn(self) -> None:
        self._engine.turn(wait=False)
        self._engine.flush()  # else the next turn would take it along

    def _catch_up(self) -> None:
        self._engine.flush()
        if self._engine.due() == 0:
            self._take_turn()

    # -- between two turns

    def _go_on(self) -> None:
        """See when the next turn is to be, where the descriptor will not say so."""
        engine = self._engine
        if engine.is_over():
            self._leave(None)
            return
        due = engine.due()
        if due == 0:
            self._watch()
            self._come_soon()
        elif due is not None:
            self._wake_in(due)
        if not self._coming:
            engine.owner = _NOBODY

    def _come_soon(self) -> None:
        if not self._coming:
            self._coming = True
            self._host.soon(self._come)

    def _wake_in(self, delay: float) -> None:
        """Have a timer that goes off by then: an earlier one will do, and look again."""
        delay = min(delay, LONGEST_WAIT)
        at = monotonic() + delay
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._host.later(delay, self._wake)

    def _watch(self) -> None:
        """Let the host watch what is to be watched now: it changes when a set is made anew."""
        fd = self._engine.watched()
        if fd != self._fd:
            if self._fd >= 0:
                self._host.forget(self._fd)
            self._fd = fd
            self._host.watch(fd, self._turn)

    def _leave(self, exc: BaseException | None) -> None:
        """Close everything, and let nothing of it behind in the host."""
        engine, fd = self._engine, self._fd
        self._fd = -1
        if not engine.is_copy():
            self._host.forget(fd)
            if self._timer is not None:
                self._timer.cancel()
        try:
            engine.close()
        except BaseException as raised:
            exc = exc or raised
        engine.has_ended(exc)
        self._ended(exc)
