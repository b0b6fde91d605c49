"""One connection of the pure generator: connect, send, receive, compare."""

from __future__ import annotations

import errno
import heapq
import os
import selectors
import socket
import time
from collections import deque

from muxcore import address as addresses
from muxcore.load import telling
from muxcore.load.config import LoadConfig
from muxcore.load.generator import Phase
from muxcore.load.pace import Pace, Pattern, difference
from muxcore.load.replies import UntilReply, Verdict, reply_of
from muxcore.load.result import LoadResult

_IO_MAX = 262_144  # bytes one send or recv moves at most
_SEEN = 64  # bytes of a wrong reply that an error may quote
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


class Shared:
    """What the connections of a load share: the ``mux_load`` of csrc/load/load_internal.h.

    ``heap`` holds (due, index, connection) of those that may send, in the open loop; ``down``
    counts the connections that are down for good. Times are nanoseconds of ``time.monotonic_ns``.
    """

    def __init__(self, config: LoadConfig, kind: str) -> None:
        self.config = config
        self.family, self.sockaddr = addresses.resolve(config.address)[0]
        self.churn = config.workload == "churn"
        self.sent = Pattern(config.seed, _IO_MAX, config.request)
        self.expected = Pattern(config.seed, _IO_MAX, config.reply)
        # recv() would allocate as much each time, which malloc(3) may map and unmap each time
        self.inbox = memoryview(bytearray(_IO_MAX))
        self.selector = selectors.DefaultSelector()
        self.heap: list[tuple[int, int, Connection]] = []
        self.phase = Phase.IDLE
        self.late = False  # in the drain's second half nothing is sent any more
        self.stop = False  # the window is to end
        self.is_another = False  # kind of server: no byte was ever right
        self.refusal = b""  # how the first HTTP reply begins that is an error
        self.pending = self.inflight = self.down = 0
        self.warmup = self.window_start = self.window_end = 0
        self.found = LoadResult(kind)
        self.conns = [Connection(self, i) for i in range(config.connections + config.idle)]

    @property
    def is_spent(self) -> bool:
        """Whether all messages were sent that were to be."""
        return bool(self.config.messages) and self.found.sent >= self.config.messages

    def may_issue(self, due: int) -> bool:
        if self.is_spent:
            return False
        if self.phase is Phase.WARMING:
            return self.warmup > 0
        if self.phase is Phase.DRAINING:
            return self.config.rate > 0 and due < self.window_end and not self.late
        return self.phase is Phase.MEASURING


class Connection:
    """One connection. ``flights`` are (due, bytes), the oldest unanswered message first."""

    __slots__ = (
        "_load", "_reply", "events", "flights", "free_since", "head_done", "idle", "in_at", "index",
        "out_at", "out_left", "owed", "pace", "queued", "since", "sock", "state",
    )  # fmt: skip

    def __init__(self, load: Shared, index: int) -> None:
        self._load = load
        self.index = index
        self.idle = index >= load.config.connections
        self.pace = Pace(load.config, index)
        self.sock: socket.socket | None = None
        self.state = "unused"  # unused, connecting, greeting, open, down
        self.flights: deque[tuple[int, int]] = deque()
        self.out_at = self.in_at = self.out_left = self.owed = self.head_done = 0
        self.free_since = self.since = self.events = 0
        self.queued = False  # whether it is in the heap
        self._reply = reply_of(load.config)

    @property
    def _churns(self) -> bool:
        return self._load.churn and not self.idle

    def issue(self, now: int) -> None:
        """Send what may be sent now: up to ``depth`` messages, and in the open loop what is due."""
        if self.queued or self.state == "down":
            return
        load, config = self._load, self._load.config
        paced, pace = config.rate > 0, self.pace
        while len(self.flights) < config.depth and (not paced or pace.due <= now):
            if not load.may_issue(pace.due if paced else now):
                break
            self._queue(now)
        if self.out_left:
            if self.state == "unused":
                self.open(now)
            elif self.state == "open":
                self._flush()
        if paced and self.state != "down" and len(self.flights) < config.depth:
            self.queued = True
            heapq.heappush(load.heap, (pace.due, self.index, self))

    def _queue(self, now: int) -> None:
        load, config, due = self._load, self._load.config, now
        if config.rate:
            due = self.pace.due
            if load.phase is not Phase.WARMING:
                load.found.lag.add(now - max(due, self.free_since))
            self.pace.advance()
        size = self.pace.size()
        back = len(config.reply) or size
        self.flights.append((due, back))
        self.out_left += size
        self.owed += back
        load.inflight += 1
        if load.phase is not Phase.WARMING and due >= load.window_start:
            load.found.sent += 1

    def open(self, now: int) -> None:
        load = self._load
        self.since, self.state = now, "connecting"
        self._reply = reply_of(load.config)
        load.pending += 1
        try:
            self.sock = socket.socket(load.family, socket.SOCK_STREAM)
            self.sock.setblocking(False)
            if load.family != socket.AF_UNIX:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if load.config.sources:
                turn = self.index % load.config.sources
                self.sock.bind((f"127.0.{turn // 250}.{turn % 250 + 2}", 0))
            code = self.sock.connect_ex(load.sockaddr)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self.events = _BOTH
            load.selector.register(self.sock, _BOTH, self)
        except OSError as exc:
            self.fail(exc)

    def ready(self, events: int) -> None:
        """Take what an event brings: connected, greeted, answered, or the end."""
        if self.sock is None:
            return
        if self.state == "connecting":
            if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.fail(OSError(code, os.strerror(code)))
                return
            if greeting := self._load.config.greeting:
                self._reply, self.state = UntilReply(greeting), "greeting"
                self._watch(_READ)
                return
            self._established()
        if self.state == "greeting":
            self._receive_greeting()
            return
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.state == "open":
            self._receive()

    def _established(self) -> None:
        self._load.pending -= 1
        self.state = "open"
        self._load.found.opened += 1
        self._load.found.open += 1

    def _flush(self) -> None:
        assert self.sock is not None
        load = self._load
        try:
            while self.out_left:
                size = min(self.out_left, _IO_MAX)
                sent = self.sock.send(load.sent.at(self.index, self.out_at, size))
                self.out_at += sent
                self.out_left -= sent
                if load.phase is Phase.MEASURING:
                    load.found.bytes_out += sent
        except BlockingIOError:
            pass  # the rest goes when the kernel says so
        except OSError as exc:
            self.fail(exc)
            return
        self._watch(_BOTH if self.out_left else _READ)

    def _watch(self, wanted: int) -> None:
        assert self.sock is not None
        if wanted != self.events:
            self.events = wanted
            self._load.selector.modify(self.sock, wanted, self)

    def _read(self) -> bytes:
        """Return what came; nothing where none did, or the connection has ended."""
        assert self.sock is not None
        try:
            size = self.sock.recv_into(self._load.inbox)
        except BlockingIOError:
            return b""
        except OSError as exc:
            self._end_of_stream(exc)
            return b""
        if not size:
            self._end_of_stream(None)
        return bytes(self._load.inbox[:size])

    def _receive(self) -> None:
        load, data = self._load, self._read()
        if not data or (self._reply is None and not self._verify(data)):
            return
        now = time.monotonic_ns()
        if load.phase is Phase.MEASURING:
            load.found.bytes_in += len(data)
        if self._reply is None:
            self._complete(len(data), now)
        elif not self._take_replies(data, now):
            return
        self.in_at += len(data)
        if self._churns:
            if self.flights:
                return
            self.shut()
        if not self.idle:
            self.issue(now)

    def _receive_greeting(self) -> None:
        """Read what the server says first up to its end; nothing may follow: it was not asked."""
        data = self._read()
        if not data:
            return
        assert self._reply is not None
        end, verdict = self._reply.take(data, 0)
        if end < len(data):
            self._corrupt(data, end, end, -1)
        elif verdict is Verdict.WHOLE:
            self._reply = reply_of(self._load.config)
            self._established()
            self._flush()

    def _verify(self, data: bytes) -> bool:
        """Compare what came with what was sent; return whether it is right."""
        expected = self._load.expected.at(self.index, self.in_at, min(len(data), self.owed))
        if data == expected:
            self.owed -= len(data)
            return True
        offset = difference(expected, data)
        within = offset < len(expected)
        self._corrupt(data, 0 if within else offset, offset, expected[offset] if within else -1)
        return False

    def _take_replies(self, data: bytes, now: int) -> bool:
        """Take the replies that end in what came; return whether the connection goes on."""
        at = 0
        while at < len(data):
            begin, verdict = at, Verdict.WRONG  # where nothing was asked
            reply = self._reply
            assert reply is not None
            if self.flights:
                at, verdict = reply.take(data, at)
            if verdict is Verdict.WRONG:
                self._corrupt(data, begin, begin, -1)
                return False
            if verdict is Verdict.MORE:
                break
            if verdict is Verdict.REFUSAL:
                load = self._load
                load.refusal = load.refusal or data[begin : min(at, begin + _SEEN)]
            self._reply = reply_of(self._load.config)
            self._answered(now, verdict is Verdict.WHOLE)
            if reply.closes and not self._churns:
                self._again(now)
                return False
        return True

    def _may_end(self, error: OSError | None, now: int) -> bool:
        """HTTP lets a server end a connection between two replies, or with one."""
        if not self._load.config.http or self.idle or self._reply is None:
            return False
        if not self._reply.has_begun:
            return bool(self.in_at or not self.flights) and not self._churns
        verdict = Verdict.WRONG if error else self._reply.at_end()
        if verdict is Verdict.WRONG:
            return False
        self._answered(now, verdict is Verdict.WHOLE)
        return True

    def _end_of_stream(self, error: OSError | None) -> None:
        now = time.monotonic_ns()
        if not self._may_end(error, now):
            if error:
                self.fail(error)
            else:
                self.fail(ConnectionError("the server closed the connection"), "closed")
        elif self._churns:
            self.shut()
            self.issue(now)
        else:
            self._again(now)

    def _complete(self, size: int, now: int) -> None:
        self.head_done += size
        while self.flights and self.head_done >= self.flights[0][1]:
            self.head_done -= self.flights[0][1]
            self._answered(now, True)

    def _answered(self, now: int, is_right: bool) -> None:
        load = self._load
        if len(self.flights) == load.config.depth:
            self.free_since = now
        due, _ = self.flights.popleft()
        load.inflight -= 1
        if load.phase is Phase.MEASURING and is_right:
            load.found.received += 1
        if load.phase is Phase.WARMING or due < load.window_start:
            return
        if not is_right:
            load.found.errors["status"] += 1
            load.found.lost += 1
            return
        load.found.answered += 1
        load.found.latency.add(now - due)

    def _corrupt(self, data: bytes, begin: int, offset: int, expected: int) -> None:
        """The reply that begins at ``begin`` is wrong at ``offset``."""
        load = self._load
        from_the_start = offset == 0 and not any(conn.in_at for conn in load.conns)
        what = telling.wrong_bytes(
            load.config, self.index, self.in_at + offset, expected, data[offset],
            data[begin : begin + _SEEN], from_the_start,
        )  # fmt: skip
        if from_the_start and not load.found.errors["corrupt"]:
            load.stop = load.late = load.is_another = True  # no other is worth waiting for
        self.fail(ValueError(what), "corrupt")

    def fail(self, exc: Exception, kind: str = "") -> None:
        code = exc.errno if isinstance(exc, OSError) else None
        found = self._load.found
        found.errors[kind or _KINDS.get(code or 0, "other")] += 1
        found.first_error = found.first_error or (os.strerror(code) if code else str(exc))
        found.lost += len(self.flights)
        self.shut()

    def shut(self) -> None:
        """Let go of the connection, and of what is unanswered."""
        self._release()
        self._load.inflight -= len(self.flights)
        self.flights.clear()
        if not self._churns:
            self.state = "down"
            self._load.down += 1

    def _again(self, now: int) -> None:
        """Open it anew, and ask again what was not answered."""
        self._release()
        self.out_left = len(self.flights) * len(self._load.config.request)
        if self.out_left:  # where it is queued for its next message, issue() leaves it alone
            self.open(now)
        self.issue(now)

    def _release(self) -> None:
        if self.state in ("connecting", "greeting"):
            self._load.pending -= 1
        if self.state == "open":
            self._load.found.open -= 1
        if self.sock:
            if self.events:
                self._load.selector.unregister(self.sock)
            self.sock.close()
        self.sock, self.events = None, 0
        self.out_at = self.in_at = self.out_left = self.owed = self.head_done = 0
        self.state = "unused"
