"""The relay verb of the process model: two sockets, and poll(2) to say which of them is ready.

Blocking calls would not do here: while this process waited to send to one side that does not read,
it would not receive from the other, and two peers that both send first would wait for ever.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from muxcore.errors import HalfCloseTimeout, IdleTimeout
from muxcore.limits import Limits
from muxcore.transport import HOLD_EOF


class _Direction:
    """The bytes of one side on their way to the other: at most one receive of them."""

    def __init__(self, source: Any, sink: Any) -> None:
        self.source = source
        self.sink = sink
        self.waiting = memoryview(b"")
        self.ended = bool(source._hold & HOLD_EOF)  # of the source no more is to come

    def receive(self, size: int) -> None:
        try:
            data = self.source.sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as exc:
            self.source._fail(exc)
            return
        self.ended = not data
        self.waiting = memoryview(data)
        self.source.count(len(data), 0)
        self.send()

    def send(self) -> None:
        if not self.waiting:
            return
        try:
            sent = self.sink.sock.send(self.waiting, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as exc:
            self.sink._fail(exc)
            return
        self.sink.count(0, sent)
        self.waiting = self.waiting[sent:]

    def end_if_empty(self) -> None:
        """Pass the source's EOF on, once all before it is sent."""
        if self.ended and not self.waiting:
            self.source._pass_on_eof()


def pump(left: Any, right: Any, limits: Limits) -> None:
    """Move bytes both ways until both directions have ended, or one of the two has failed.

    Args:
        left: a blocking transport.
        right: the one it is joined with.
        limits: the deadlines, and the bytes of one receive.
    """
    directions = (_Direction(left, right), _Direction(right, left))
    moved_at = time.monotonic()
    half_at: float | None = None  # when the first direction ended
    while True:
        for each in directions:
            if left.stopping:
                each.ended = True
            each.end_if_empty()
        if left.is_lost() or right.is_lost():
            return
        now = time.monotonic()
        if half_at is None and any(each.ended for each in directions):
            half_at = now
        overdue, wait = _deadline(limits, now, moved_at, half_at)
        if overdue is not None:
            left._fail(overdue)
            return
        events = _wait(directions, wait)
        for each in directions:
            if events.get(each.sink.fileno(), 0) & ~select.POLLIN and not left.is_lost():
                each.send()
            readable = events.get(each.source.fileno(), 0) & ~select.POLLOUT
            if readable and not (each.ended or each.waiting or left.is_lost()):
                each.receive(limits.read_chunk)
        if events:
            moved_at = time.monotonic()


def _wait(directions: tuple[_Direction, _Direction], seconds: float | None) -> dict[int, int]:
    poll = select.poll()
    masks = dict.fromkeys((each.source.fileno() for each in directions), 0)
    for each in directions:
        if each.waiting:
            masks[each.sink.fileno()] |= select.POLLOUT
        elif not each.ended:
            masks[each.source.fileno()] |= select.POLLIN
    for fd, mask in masks.items():
        if mask:  # poll(2) reports a hang-up always: who waits for nothing would spin
            poll.register(fd, mask)
    return dict(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))


def _deadline(
    limits: Limits, now: float, moved_at: float, half_at: float | None
) -> tuple[BaseException | None, float | None]:
    """Return the error of a deadline that has passed, and the seconds until the next one."""
    left: list[float] = []
    if limits.idle_timeout is not None:
        left.append(moved_at + limits.idle_timeout - now)
        if left[-1] <= 0:
            return IdleTimeout(limits.idle_timeout), None
    if half_at is not None and limits.half_close_timeout is not None:
        left.append(half_at + limits.half_close_timeout - now)
        if left[-1] <= 0:
            return HalfCloseTimeout(limits.half_close_timeout), None
    return None, min(left, default=None)
