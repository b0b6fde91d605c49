"""The load generator in Python: the same results as the native one, from a slower client.

It says ``generator: pure`` in every result. Against a fast server it is the bottleneck itself, and
its own lateness is in ``lag``: use it to check answers, not to rank servers.
"""

from __future__ import annotations

import errno
import heapq
import os
import time
from collections import Counter
from dataclasses import replace

from muxcore.load import telling
from muxcore.load.config import LoadConfig
from muxcore.load.generator import Phase
from muxcore.load.pure_conn import Connection, Shared
from muxcore.load.result import LoadResult

_PENDING = 256  # connects at once: below the usual SYN backlog, so that no SYN is dropped
_CONNECT_TURN = 0.005  # seconds between looks at the ramp and the connect deadlines


class PureGenerator:
    """See :class:`muxcore.load.generator.Generator`."""

    kind = "pure"

    def __init__(self, config: LoadConfig) -> None:
        self._config = config
        self._load = Shared(config, self.kind)
        self._conns = self._load.conns
        self._active = self._conns[: config.connections]
        self._next = config.connections if self._load.churn else 0
        self._connected = self._entered = False
        self._measure = self._connect_started = self._ends = self._spent_at = 0

    def begin(self, warmup: float, seconds: float) -> None:
        load = self._load
        load.found = LoadResult(self.kind, opened=load.found.opened, open=load.found.open)
        load.warmup, self._measure = round(warmup * 1e9), round(seconds * 1e9)
        self._spent_at, load.refusal = 0, b""
        load.stop = load.late = load.is_another = False
        self._go(Phase.WARMING if self._connected else Phase.CONNECTING)

    def run(self, seconds: float) -> Phase:
        load, now = self._load, time.monotonic_ns()
        until = now + round(seconds * 1e9)
        if not self._entered:
            self._entered = True
            self._enter(now)
        if load.churn and load.phase is not Phase.CONNECTING:
            self._issue_all(now)  # slots that failed get their next try
        while True:
            if self._advance(now):
                return load.phase
            if now >= until:
                if load.phase is Phase.MEASURING:
                    load.found.seconds = (now - load.window_start) / 1e9
                return load.phase
            self._issue_due(now)
            for key, events in load.selector.select(self._patience(now, until)):
                conn: Connection = key.data
                conn.ready(events)
                if load.heap:
                    self._issue_due(time.monotonic_ns())
            now = time.monotonic_ns()

    def stop(self) -> None:
        self._load.stop = True

    def result(self) -> LoadResult:
        found, refused = self._load.found, self._load.refusal
        why = found.first_error or (telling.refusal(refused) if found.errors["status"] else "")
        return replace(
            found,
            errors=Counter(found.errors),
            first_error=why,
            latency=found.latency.copy(),
            lag=found.lag.copy(),
        )

    def close(self) -> None:
        for conn in self._conns:
            if conn.sock:
                conn.sock.close()
                conn.sock = None
        self._load.selector.close()

    # The phases.

    def _go(self, phase: Phase) -> None:
        self._load.phase = phase
        self._entered = False

    def _enter(self, now: int) -> None:
        load = self._load
        if load.phase is Phase.CONNECTING:
            self._connect_started = now
        elif load.phase is Phase.WARMING:
            self._ends = now + load.warmup
            self._start_sending(now)
        elif load.phase is Phase.MEASURING:
            found = load.found
            found.sent = found.received = found.answered = found.bytes_in = found.bytes_out = 0
            load.window_start = now
            self._ends = now + self._measure
            if not load.warmup:  # nothing was sent, then: the first message is the window's first
                self._start_sending(now)
        elif load.phase is Phase.DRAINING:
            self._ends = now + (0 if load.late else round(self._config.reply_timeout * 1e9))

    def _advance(self, now: int) -> bool:
        """Return whether the phase has changed."""
        load = self._load
        dead = load.down == len(self._conns)
        if load.phase is Phase.CONNECTING:
            self._connect_more(now)
            if not load.stop and (load.pending or self._next < len(self._conns)):
                return False
            self._connected = True
            self._go(Phase.IDLE if load.stop or dead else Phase.WARMING)
        elif load.phase is Phase.WARMING:
            if now < self._ends and not load.stop and not dead:
                return False
            if load.stop or dead:
                load.window_start = now
                self._end_window(now)
            else:
                self._go(Phase.MEASURING)
        elif load.phase is Phase.MEASURING:
            if not self._is_done(now) and now < self._ends and not load.stop and not dead:
                return False
            self._end_window(now)
        elif load.phase is Phase.DRAINING:
            # In the second half nothing more is sent: a server that is behind loses nothing. It is
            # counted from here: where this process stood still, what it sent last has its time too.
            half = round(self._config.reply_timeout * 5e8)
            if not load.late and now >= self._ends - half:
                load.late, self._ends = True, now + half
            if not self._is_drained() and now < self._ends:
                return False
            self._settle(now)
            self._go(Phase.IDLE)
        return True

    def _is_done(self, now: int) -> bool:
        """Whether all that was to be sent is answered, or was given its time.

        So the last replies are within the window, too. A drain follows as always: a process that
        stood still loses none.
        """
        load = self._load
        if not load.is_spent:
            return False
        self._spent_at = self._spent_at or now
        patience = round(self._config.reply_timeout * 1e9)
        return not load.inflight or now - self._spent_at >= patience

    def _is_drained(self) -> bool:
        load = self._load
        behind = load.heap and load.heap[0][0] < load.window_end
        return not load.inflight and (load.late or not behind or load.is_spent)

    def _end_window(self, now: int) -> None:
        load = self._load
        load.window_end = now
        load.found.seconds = (now - load.window_start) / 1e9
        self._go(Phase.DRAINING)

    def _settle(self, now: int) -> None:
        """Count what was due and is not answered, with the time it has waited."""
        load = self._load
        load.heap.clear()
        for conn in self._active:
            conn.queued = False
            for due, _ in conn.flights:
                if due >= load.window_start:
                    load.found.latency.add(now - due)
            if conn.flights and load.is_another:  # it was not given its time
                load.found.lost += len(conn.flights)
                conn.shut()
            elif conn.flights:
                conn.fail(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            while self._config.rate and conn.pace.due < load.window_end and not load.is_spent:
                if conn.pace.due >= load.window_start:
                    load.found.latency.add(now - conn.pace.due)
                    load.found.overdue += 1
                conn.pace.advance()

    def _patience(self, now: int, until: int) -> float:
        heap, phase = self._load.heap, self._load.phase
        turn = now + round(_CONNECT_TURN * 1e9)
        limit = min(until, turn if phase is Phase.CONNECTING else self._ends)
        if heap and heap[0][0] < limit and not self._load.is_spent:
            # Selectors round up to a millisecond: the last one is polled, or all would be late.
            return max(heap[0][0] - now, 0) // 1_000_000 / 1000
        return max(limit - now, 0) / 1e9

    # When to send, and when to connect.

    def _start_sending(self, now: int) -> None:
        if self._config.rate:
            self._load.heap.clear()
            for conn in self._active:
                conn.queued = False
                conn.free_since = now
                conn.pace.start(now)
        self._issue_all(now)

    def _issue_all(self, now: int) -> None:
        for conn in self._active:
            conn.issue(now)

    def _issue_due(self, now: int) -> None:
        load = self._load
        while load.heap and load.heap[0][0] <= now and load.may_issue(load.heap[0][0]):
            conn = heapq.heappop(load.heap)[2]
            conn.queued = False
            conn.issue(now)

    def _connect_more(self, now: int) -> None:
        load = self._load
        ramp = self._config.ramp * 1e9
        share = (now - self._connect_started) / ramp if ramp else 1.0
        allowed = min(len(self._conns), int(share * len(self._conns)) + 1)
        while self._next < allowed and load.pending < _PENDING:
            self._next += 1
            self._conns[self._next - 1].open(now)
        if load.pending:
            patience = round(self._config.connect_timeout * 1e9)
            for conn in self._conns[: self._next]:
                if conn.state in ("connecting", "greeting") and now - conn.since > patience:
                    conn.fail(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
