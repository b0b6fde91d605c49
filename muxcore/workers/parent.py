"""The parent of workers: it owns the sockets, starts who serves them, and serves nobody itself.

It has one thread and waits for three things: a wake-up (a signal, a call), a word of a worker, and
the end of one. Each worker begins as a spare, which has imported everything and waits for sockets,
and one spare there always is: so a worker that dies is replaced in the time of a message, and not
of Python's start. Whoever waits in the queue of its sockets stays there meanwhile.
"""

from __future__ import annotations

import contextlib
import math
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from muxcore.abc import logger
from muxcore.errors import WorkerFailed
from muxcore.limits import Limits
from muxcore.parts.cells import Cells
from muxcore.parts.channel import Message
from muxcore.parts.processes import signal_name
from muxcore.parts.timers import Timers
from muxcore.parts.waker import Waker
from muxcore.stats import Stats
from muxcore.workers.crew import Worker, most_of
from muxcore.workers.ending import Ending, Phase
from muxcore.workers.places import Place, Places
from muxcore.workers.replacing import Replacing
from muxcore.workers.task import file_of

_TICK = 0.05  # s between two looks at who has ended, where a process has no descriptor (Linux 5.3)


class Parent:
    """The loop of a parent.

    Args:
        task: what its workers do: see ``task.packed``.
        places: what they serve.
        limits: the whole service's.
        waker: wakes it; whatever was asked for is looked at then.
        tell: called with each phase of its end; see ``Engine.drain``.

    Attributes:
        ending: how it is to end: what is asked for is set there by anybody, who then wakes it.
        limits: the whole service's.
        alarms: calls that are due later.
        serves: every place has had a worker that is ready.
        drained: no worker had to cut a client short.
        stopped: clients that drains have ended.
        failure: why it ended by itself.
    """

    def __init__(
        self,
        task: bytes,
        places: Places,
        limits: Limits,
        waker: Waker,
        tell: Callable[[str], object],
    ) -> None:
        self.ending = Ending(limits.drain_timeout)
        self.alarms = Timers(0)
        self.serves = False
        self.drained = True
        self.stopped = 0
        self.failure: WorkerFailed | None = None
        self._task = file_of(task)
        self._places = places
        self.limits = limits
        self._waker = waker
        self._tell = tell
        self._tell_of: Callable[[Worker], object] = lambda worker: None
        self._workers: list[Worker] = []
        self._calls: deque[Callable[[], object]] = deque()
        # of those who leave there may be as many as there are places, and nobody waits for more
        self._cells = Cells(2 * most_of(len(places.every)) + 1)
        self._free = list(range(len(self._cells)))
        self._gone = Stats()  # what those have counted that have ended
        self._counting = threading.Lock()  # a cell is added to that, and read no more, at once
        self._starts = Replacing()  # of those that have no place yet
        self._start_due = 0.0

    def call(self, call: Callable[[], object]) -> None:
        """Have something called between two turns; from any thread and signal handler."""
        self._calls.append(call)
        self._waker.wake()

    def order(self, word: str) -> None:
        """Tell every worker that serves."""
        for worker in self._workers:
            if worker.place is not None:
                worker.process.channel.send(word)

    def renew(self, task: bytes, news: bytes) -> None:
        """Have workers do something else from now on; in its thread.

        Args:
            task: for those that do not serve yet.
            news: for the others: see ``worker``.
        """
        self._task.close()
        self._task = file_of(task)
        with file_of(news) as file:
            for worker in self._workers:
                if worker.place is None:
                    worker.process.channel.send("prepare", {"task": self._task.fileno()})
                elif not worker.process.channel.send("renew", {"news": file.fileno()}):
                    logger.error("%s cannot be told what has changed", worker.name())

    def tell_of(self, serves: Callable[[Worker], object]) -> None:
        """Call ``serves(worker)`` for each with a place, ready or not, now and later; here."""
        self._tell_of = serves
        for worker in self._workers:
            if worker.place is not None:
                serves(worker)

    def resize(self, count: int) -> None:
        """Have so many workers; in its thread."""
        places = self._places
        while len(places.every) > count and self.ending.phase == Phase.SERVING:
            left, heir, sockets = places.one_less()
            for worker in self._workers:
                if worker.place is left:
                    self._let_go(worker)
                elif worker.place is heir and not worker.leaves and sockets:
                    worker.process.channel.send("listen", sockets)
        while len(places.every) < count and self.ending.phase == Phase.SERVING:
            try:
                places.one_more()
            except OSError as exc:
                logger.warning("there is no socket for another worker: %s", exc)
                return

    def _let_go(self, worker: Worker) -> None:
        """Its place is nobody's any more: let it drain."""
        worker.leaves = True
        self._cells[worker.cell].serving = False
        limits = self.limits
        worker.process.channel.send("drain", timeout=limits.drain_timeout, delay=limits.drain_delay)

    def stats(self) -> Stats:
        """Return what all workers have counted; from any thread."""
        with self._counting:
            stats = self._gone.snapshot()
            for worker in list(self._workers):
                if worker.place is not None:
                    stats.add(self._cells[worker.cell].snapshot())
        return stats

    def is_over(self) -> bool:
        return self.ending.phase > Phase.SERVING and not self._workers

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        if self.ending.phase == Phase.SERVING:
            self._fill()
        readable = self._wait()
        if self._waker.fileno() in readable:
            self._waker.drain()
        while self._calls:
            self._calls.popleft()()
        self.alarms.run_due()
        for worker in list(self._workers):
            if worker.process.channel.fileno() in readable:
                self._hear(worker)
            status = worker.process.status()
            if status is not None:
                self._ended(worker, status)
        self._end()

    def close(self) -> None:
        """Leave nothing behind; whoever still runs is killed."""
        for worker in list(self._workers):
            worker.process.kill()
            worker.process.wait()
            worker.process.channel.close()
            self._forget(worker)
        self._task.close()
        self._cells.close()

    # -- waiting

    def _wait(self) -> set[int]:
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        wait = self._due() - monotonic()
        for worker in self._workers:
            end = worker.process.end_fileno()
            if end < 0:
                wait = min(wait, _TICK)
            else:
                poll.register(end, select.POLLIN)
            if not worker.has_closed:
                poll.register(worker.process.channel.fileno(), select.POLLIN)
        timeout = None if math.isinf(wait) else max(0.0, wait) * 1000
        return {fd for fd, _ in poll.poll(timeout)}

    def _due(self) -> float:
        """Return when there is something to do that nobody tells of."""
        dues = [self.ending.due()]
        if (delay := self.alarms.delay()) is not None:
            dues.append(monotonic() + delay)
        if self.ending.phase == Phase.SERVING:
            dues += [place.due for place in self._empty() if place.due > monotonic()]
            if self._lacks() > 0:
                dues.append(self._start_due)
        return min(dues)

    # -- who serves

    def _empty(self) -> list[Place]:
        taken = [worker.place for worker in self._workers if not worker.leaves]
        return [place for place in self._places.every if place not in taken]

    def _lacks(self) -> int:
        """Return how many processes are to be started: one for each empty place, then a spare.

        A start takes a core for a while, which those who are to serve may need themselves.
        """
        spares = sum(worker.place is None for worker in self._workers)
        settled = all(worker.ready_at for worker in self._workers if worker.place is not None)
        return max(len(self._empty()), int(settled)) - spares

    def _fill(self) -> None:
        """Give the places that are empty to those who are prepared, and start those who lack."""
        prepared = [each for each in self._workers if each.prepared and each.place is None]
        for place in self._empty():
            if prepared and self._free and place.due <= monotonic():
                self._give(prepared.pop(0), place)
        while self._lacks() > 0 and self._start_due <= monotonic():
            try:
                worker = Worker()
            except OSError as exc:
                self._replace("a worker", None, None, "cannot be started", str(exc))
                return
            given = {"task": self._task.fileno(), "cells": self._cells.descriptor}
            worker.process.channel.send("prepare", given, cells=len(self._cells))
            self._workers.append(worker)

    def _give(self, worker: Worker, place: Place) -> None:
        worker.cell = self._free.pop()
        self._cells[worker.cell].clear()
        worker.place = place
        limits = self.limits
        count = len(self._places.every)
        shares = {
            name: getattr(limits, name) // count + (place.number <= getattr(limits, name) % count)
            for name in ("connections", "processes")
        }
        worker.process.channel.send(
            "serve",
            place.descriptors(),
            limits=shares,
            share=(place.number, count),
            cell=worker.cell,
            exact=self._places.exact,
        )
        self._tell_of(worker)

    def _hear(self, worker: Worker) -> None:
        with contextlib.suppress(BlockingIOError):
            while (message := worker.process.channel.receive()) is not None:
                self._heard(worker, message)
            worker.has_closed = True

    def _heard(self, worker: Worker, message: Message) -> None:
        if message.word == "prepared":
            worker.prepared = True
        elif message.word == "failed":
            worker.why = f"{message.details['text']} ({message.details['where']})"
        elif message.word == "over":
            self.stopped += message.details["stopped"]
        elif message.word == "leaves":
            worker.leaves = True
            self._cells[worker.cell].serving = False
        elif message.word == "ready" and worker.place is not None:
            worker.ready_at = monotonic()
            self._cells[worker.cell].serving = True
            worker.place.ready = True
            self.serves = self.serves or all(place.ready for place in self._places.every)

    def _ended(self, worker: Worker, status: int) -> None:
        """A process has ended; whatever it still said is heard first."""
        self._hear(worker)
        worker.process.channel.close()
        self._forget(worker)
        place = worker.place
        if self.ending.phase > Phase.SERVING and worker.ready_at is not None:
            self.drained = self.drained and status == 0
        if self.ending.phase > Phase.SERVING:
            return
        if worker.leaves and status in (0, 1):  # a signal of somebody's has ended it
            replaced = ", and is replaced" if place in self._places.every else ""
            logger.info("%s has ended%s", worker.name(), replaced)
            return
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        if worker.why and not self.serves:
            self._fail(f"a worker cannot serve: {worker.why}")
            return
        lived = None if worker.ready_at is None else monotonic() - worker.ready_at
        self._replace(worker.name(), place, lived, how, worker.why)

    def _forget(self, worker: Worker) -> None:
        """Keep what a worker that has ended had counted, but for who was there."""
        if worker.place is None:
            self._workers.remove(worker)
            return
        self._cells[worker.cell].serving = False
        with self._counting:
            counted = self._cells[worker.cell].snapshot()
            counted.open = counted.outgoing = 0
            self._gone.add(counted)
            self._workers.remove(worker)
        self._free.append(worker.cell)

    def _replace(
        self, who: str, place: Place | None, lived: float | None, how: str, why: str
    ) -> None:
        """See to it that another one comes, or give up."""
        deaths = self._starts if place is None else place.deaths
        pause = deaths.pause(lived)
        if pause is None:
            last = why or "its log may say why"
            self._fail(
                f"{deaths.deaths} workers in a row have ended before they served, or soon after; "
                f"the last one {how}: {last}"
            )
            return
        when = f"in {pause:g} s" if pause else "at once"
        logger.warning("%s %s, and is replaced %s%s", who, how, when, why and f": {why}")
        due = monotonic() + pause
        if place is None:
            self._start_due = due
        else:
            place.due = due

    def _fail(self, why: str) -> None:
        """Nobody can serve: end."""
        self.failure = WorkerFailed(why)
        if self.serves:
            self.ending.drain_asked = True
        else:
            self.ending.stop_asked = True

    # -- its end

    def _end(self) -> None:
        """Do what was asked for, and what is due of it."""
        now, before = monotonic(), self.ending.phase
        if self.ending.goes_on(now, self.limits):
            self._begin(self.ending.phase, before)
        if self.ending.closes(now):
            self._close_places("closed")
        if self.ending.is_over(now):
            self._tell("over")

    def _begin(self, phase: Phase, before: Phase) -> None:
        if before == Phase.SERVING:
            for worker in self._workers:
                if worker.place is None:  # it has nobody to finish with
                    worker.process.kill()
        for worker in self._workers:
            channel = worker.process.channel
            if phase == Phase.DRAINING:
                timeout, delay = self.ending.timeout, self.limits.drain_delay
                channel.send("drain", timeout=timeout, delay=delay)
            elif phase == Phase.STOPPING:
                channel.send("stop")
            elif phase == Phase.ABORTING:
                channel.send("abort")
            else:
                worker.process.kill()
        if phase == Phase.DRAINING:
            self._tell("draining")
        elif before < Phase.STOPPING:
            self._close_places("ending")

    def _close_places(self, phase: str) -> None:
        self._places.close()
        self._tell(phase)
