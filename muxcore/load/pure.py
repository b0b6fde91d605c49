"""The load generator in Python: the same results as the native one, from a slower client.

It says ``generator: pure`` in every result. Against a fast server it is the bottleneck itself, and
its own lateness is in ``lag``: use it to check answers, not to rank servers.
"""

from __future__ import annotations

import errno
import heapq
import os
import selectors
import socket
import time
from collections import Counter, deque
from dataclasses import replace

from muxcore import address as addresses
from muxcore.load.config import LoadConfig
from muxcore.load.generator import Phase
from muxcore.load.pace import Pace, Pattern, difference
from muxcore.load.result import LoadResult

_IO_MAX = 262_144  # bytes one send or recv moves at most
_PENDING = 256  # connects at once: below the usual SYN backlog, so that no SYN is dropped
_CONNECT_TURN = 0.005  # seconds between looks at the ramp and the connect deadlines
_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
} | dict.fromkeys(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL), "resources"
)
_READ = selectors.EVENT_READ
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class _Conn:
    """One connection. ``flights`` are (due, bytes), the oldest unanswered message first."""

    __slots__ = (
        "events", "flights", "free_since", "head_done", "idle", "in_at", "index", "out_at",
        "out_left", "owed", "pace", "queued", "since", "sock", "state",
    )  # fmt: skip

    def __init__(self, config: LoadConfig, index: int) -> None:
        self.index = index
        self.idle = index >= config.connections
        self.pace = Pace(config, index)
        self.sock: socket.socket | None = None
        self.state = "unused"  # unused, connecting, open, down
        self.flights: deque[tuple[int, int]] = deque()
        self.out_at = self.in_at = self.out_left = self.owed = self.head_done = 0
        self.free_since = self.since = self.events = 0
        self.queued = False  # whether it is in the heap


class PureGenerator:
    """See :class:`muxcore.load.generator.Generator`."""

    kind = "pure"

    def __init__(self, config: LoadConfig) -> None:
        self._config = config
        self._family, self._sockaddr = addresses.resolve(config.address)[0]
        self._churn = config.workload == "churn"
        self._sent = Pattern(config.seed, _IO_MAX, config.request)
        self._expected = Pattern(config.seed, _IO_MAX, config.reply)
        self._conns = [_Conn(config, i) for i in range(config.connections + config.idle)]
        self._next = config.connections if self._churn else 0
        self._active = self._conns[: config.connections]
        self._selector = selectors.DefaultSelector()
        self._heap: list[tuple[int, int, _Conn]] = []
        self._phase = Phase.IDLE
        self._connected = self._stop = self._entered = self._late = False
        self._pending = self._inflight = self._warmup = self._measure = 0
        self._connect_started = self._ends = self._window_start = self._window_end = 0
        self._found = LoadResult(self.kind)

    def begin(self, warmup: float, seconds: float) -> None:
        opened, still = self._found.opened, self._found.open
        self._found = LoadResult(self.kind, opened=opened, open=still)
        self._warmup, self._measure = round(warmup * 1e9), round(seconds * 1e9)
        self._stop = self._late = False
        self._go(Phase.WARMING if self._connected else Phase.CONNECTING)

    def run(self, seconds: float) -> Phase:
        now = time.monotonic_ns()
        until = now + round(seconds * 1e9)
        if not self._entered:
            self._entered = True
            self._enter(now)
        if self._churn and self._phase is not Phase.CONNECTING:
            self._issue_all(now)  # slots that failed get their next try
        while True:
            if self._advance(now):
                return self._phase
            if now >= until:
                if self._phase is Phase.MEASURING:
                    self._found.seconds = (now - self._window_start) / 1e9
                return self._phase
            self._issue_due(now)
            for key, events in self._selector.select(self._patience(now, until)):
                self._ready(key.data, events)
                if self._heap:
                    self._issue_due(time.monotonic_ns())
            now = time.monotonic_ns()

    def stop(self) -> None:
        self._stop = True

    def result(self) -> LoadResult:
        return replace(self._found, errors=Counter(self._found.errors))

    def close(self) -> None:
        for conn in self._conns:
            if conn.sock:
                conn.sock.close()
                conn.sock = None
        self._selector.close()

    # The phases.

    def _go(self, phase: Phase) -> None:
        self._phase = phase
        self._entered = False

    def _enter(self, now: int) -> None:
        if self._phase is Phase.CONNECTING:
            self._connect_started = now
        elif self._phase is Phase.WARMING:
            self._ends = now + self._warmup
            if self._config.rate:
                for conn in self._active:
                    conn.free_since = now
                    conn.pace.start(now)
            self._issue_all(now)
        elif self._phase is Phase.MEASURING:
            found = self._found
            found.sent = found.received = found.answered = found.bytes_in = found.bytes_out = 0
            self._window_start = now
            self._ends = now + self._measure
        elif self._phase is Phase.DRAINING:
            self._ends = now + round(self._config.reply_timeout * 1e9)

    def _advance(self, now: int) -> bool:
        """Return whether the phase has changed."""
        dead = not self._found.open and not self._churn
        over = now >= self._ends or self._stop or dead
        if self._phase is Phase.CONNECTING:
            self._connect_more(now)
            if not self._stop and (self._pending or self._next < len(self._conns)):
                return False
            self._connected = True
            self._go(Phase.IDLE if self._stop or dead else Phase.WARMING)
        elif self._phase is Phase.WARMING:
            if not over:
                return False
            if self._stop or dead:
                self._window_start = now
                self._end_window(now)
            else:
                self._go(Phase.MEASURING)
        elif self._phase is Phase.MEASURING:
            if not over:
                return False
            self._end_window(now)
        elif self._phase is Phase.DRAINING:
            # In the second half nothing more is sent: a server that is behind loses nothing. It is
            # counted from here: where this process stood still, what it sent last has its time too.
            half = round(self._config.reply_timeout * 5e8)
            if not self._late and now >= self._ends - half:
                self._late, self._ends = True, now + half
            behind = self._heap and self._heap[0][0] < self._window_end and not self._late
            if (self._inflight or behind) and now < self._ends:
                return False
            self._settle(now)
            self._go(Phase.IDLE)
        return True

    def _end_window(self, now: int) -> None:
        self._window_end = now
        self._found.seconds = (now - self._window_start) / 1e9
        self._go(Phase.DRAINING)

    def _settle(self, now: int) -> None:
        """Count what was due and is not answered, with the time it has waited."""
        self._heap.clear()
        for conn in self._active:
            conn.queued = False
            for due, _ in conn.flights:
                if due >= self._window_start:
                    self._found.latency.add(now - due)
            if conn.flights:
                self._fail(conn, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            while self._config.rate and conn.pace.due < self._window_end:
                if conn.pace.due >= self._window_start:
                    self._found.latency.add(now - conn.pace.due)
                    self._found.overdue += 1
                conn.pace.advance()

    def _patience(self, now: int, until: int) -> float:
        turn = now + round(_CONNECT_TURN * 1e9)
        limit = min(until, turn if self._phase is Phase.CONNECTING else self._ends)
        if self._heap and self._heap[0][0] < limit:
            # Selectors round up to a millisecond: the last one is polled, or all would be late.
            return max(self._heap[0][0] - now, 0) // 1_000_000 / 1000
        return max(limit - now, 0) / 1e9

    # When to send.

    def _may_issue(self, due: int) -> bool:
        if self._phase is not Phase.DRAINING:
            return self._phase in (Phase.WARMING, Phase.MEASURING)
        return self._config.rate > 0 and due < self._window_end and not self._late

    def _issue_all(self, now: int) -> None:
        for conn in self._active:
            self._issue(conn, now)

    def _issue_due(self, now: int) -> None:
        while self._heap and self._heap[0][0] <= now and self._may_issue(self._heap[0][0]):
            conn = heapq.heappop(self._heap)[2]
            conn.queued = False
            self._issue(conn, now)

    def _issue(self, conn: _Conn, now: int) -> None:
        if conn.queued or conn.state == "down":
            return
        paced, depth, pace = self._config.rate > 0, self._config.depth, conn.pace
        while len(conn.flights) < depth and (not paced or pace.due <= now):
            if not self._may_issue(pace.due if paced else now):
                break
            self._queue(conn, now)
        if conn.out_left:
            if conn.state == "unused":
                self._open(conn, now)
            elif conn.state == "open":
                self._flush(conn)
        if paced and conn.state != "down" and len(conn.flights) < depth:
            conn.queued = True
            heapq.heappush(self._heap, (pace.due, conn.index, conn))

    def _queue(self, conn: _Conn, now: int) -> None:
        due = now
        if self._config.rate:
            due = conn.pace.due
            if self._phase is not Phase.WARMING:
                self._found.lag.add(now - max(due, conn.free_since))
            conn.pace.advance()
        size = conn.pace.size()
        back = len(self._config.reply) or size
        conn.flights.append((due, back))
        conn.out_left += size
        conn.owed += back
        self._inflight += 1
        if self._phase is not Phase.WARMING and due >= self._window_start:
            self._found.sent += 1

    # One connection.

    def _connect_more(self, now: int) -> None:
        ramp = self._config.ramp * 1e9
        share = (now - self._connect_started) / ramp if ramp else 1.0
        allowed = min(len(self._conns), int(share * len(self._conns)) + 1)
        while self._next < allowed and self._pending < _PENDING:
            self._next += 1
            self._open(self._conns[self._next - 1], now)
        if self._pending:
            patience = round(self._config.connect_timeout * 1e9)
            for conn in self._conns[: self._next]:
                if conn.state == "connecting" and now - conn.since > patience:
                    self._fail(conn, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _open(self, conn: _Conn, now: int) -> None:
        conn.since, conn.state = now, "connecting"
        self._pending += 1
        try:
            conn.sock = socket.socket(self._family, socket.SOCK_STREAM)
            conn.sock.setblocking(False)
            if self._family != socket.AF_UNIX:
                conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._config.sources:
                turn = conn.index % self._config.sources
                conn.sock.bind((f"127.0.{turn // 250}.{turn % 250 + 2}", 0))
            code = conn.sock.connect_ex(self._sockaddr)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            conn.events = _BOTH
            self._selector.register(conn.sock, _BOTH, conn)
        except OSError as exc:
            self._fail(conn, exc)

    def _ready(self, conn: _Conn, events: int) -> None:
        if conn.sock is None:
            return
        if conn.state == "connecting":
            code = conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._fail(conn, OSError(code, os.strerror(code)))
                return
            self._pending -= 1
            conn.state = "open"
            self._found.opened += 1
            self._found.open += 1
        if events & selectors.EVENT_WRITE:
            self._flush(conn)
        if events & selectors.EVENT_READ and conn.state == "open":
            self._receive(conn)

    def _flush(self, conn: _Conn) -> None:
        assert conn.sock is not None
        try:
            while conn.out_left:
                size = min(conn.out_left, _IO_MAX)
                sent = conn.sock.send(self._sent.at(conn.index, conn.out_at, size))
                conn.out_at += sent
                conn.out_left -= sent
                if self._phase is Phase.MEASURING:
                    self._found.bytes_out += sent
        except BlockingIOError:
            pass  # the rest goes when the kernel says so
        except OSError as exc:
            self._fail(conn, exc)
            return
        wanted = _BOTH if conn.out_left else _READ
        if wanted != conn.events:
            conn.events = wanted
            self._selector.modify(conn.sock, wanted, conn)

    def _receive(self, conn: _Conn) -> None:
        assert conn.sock is not None
        try:
            data = conn.sock.recv(_IO_MAX)
        except BlockingIOError:
            return
        except OSError as exc:
            self._fail(conn, exc)
            return
        if not data:
            self._fail(conn, ConnectionError("the server closed the connection"), "closed")
            return
        owed = conn.owed
        if len(data) > owed or data != self._expected.at(conn.index, conn.in_at, len(data)):
            expected = self._expected.at(conn.index, conn.in_at, min(len(data), owed))
            what = difference(expected, data, conn.in_at)
            self._fail(conn, ValueError(f"connection {conn.index}, {what}"), "corrupt")
            return
        now = time.monotonic_ns()
        conn.in_at += len(data)
        conn.owed -= len(data)
        if self._phase is Phase.MEASURING:
            self._found.bytes_in += len(data)
        self._complete(conn, len(data), now)
        if self._churn and not conn.idle:
            if conn.flights:
                return
            self._shut(conn)
        if not conn.idle:
            self._issue(conn, now)

    def _complete(self, conn: _Conn, size: int, now: int) -> None:
        conn.head_done += size
        while conn.flights and conn.head_done >= conn.flights[0][1]:
            if len(conn.flights) == self._config.depth:
                conn.free_since = now
            due, whole = conn.flights.popleft()
            conn.head_done -= whole
            self._inflight -= 1
            if self._phase is Phase.MEASURING:
                self._found.received += 1
            if self._phase is Phase.WARMING or due < self._window_start:
                continue
            self._found.answered += 1
            self._found.latency.add(now - due)

    def _fail(self, conn: _Conn, exc: Exception, kind: str = "") -> None:
        code = exc.errno if isinstance(exc, OSError) else None
        self._found.errors[kind or _KINDS.get(code or 0, "other")] += 1
        self._found.first_error = self._found.first_error or (
            os.strerror(code) if code else str(exc)
        )
        self._found.lost += len(conn.flights)
        self._shut(conn)

    def _shut(self, conn: _Conn) -> None:
        if conn.state == "connecting":
            self._pending -= 1
        if conn.state == "open":
            self._found.open -= 1
        if conn.sock:
            if conn.events:
                self._selector.unregister(conn.sock)
            conn.sock.close()
        self._inflight -= len(conn.flights)
        conn.flights.clear()
        conn.sock, conn.events = None, 0
        conn.out_at = conn.in_at = conn.out_left = conn.owed = conn.head_done = 0
        conn.state = "unused" if self._churn and not conn.idle else "down"
