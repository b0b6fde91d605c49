"""Every cap in one frozen dataclass: buffers, queues, tables and waits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server may take, with a default that suits a public port.

    Sizes are bytes, times are seconds. A value that cannot work raises ``ValueError`` at once. A
    whole number is at most 2**31 - 1, which is what system calls take; a time is from a microsecond
    to ten years, which nanoseconds in 64 bits and seconds in 32 both hold.

    Attributes:
        connections: open connections at once, accepted or adopted; at the cap the listeners rest,
            and further clients wait in the kernel's backlog. Outgoing connections have an equal cap
            of their own; at that ``connect`` fails.
        processes: children at once in the process model, for the same reason and to the same
            effect; at most 4,194,304, Linux' own limit on processes.
        backlog: the listen(2) queue; 0 means SOMAXCONN, which the kernel clamps to its own limit.
        read_chunk: the most bytes one ``data_received`` brings; at most 67,108,864, since that much
            is allocated for a receive.
        reads_per_turn: receives that one connection may take in one turn under an edge trigger, so
            that a flooder cannot starve the rest; under a level trigger it is one, since the kernel
            tells again.
        accepts_per_turn: connections one listener may accept in one turn, for the same reason.
        write_high: ``pause_writing`` is called when more than this many bytes wait to be sent.
        write_low: ``resume_writing`` is called when at most this many bytes wait.
        write_buffer: a connection with more bytes than this waiting is aborted with
            ``BufferLimitExceeded``.
        callbacks: calls that may wait in ``call_soon_threadsafe``'s queue.
        timers: pending ``call_later`` calls.
        idle_timeout: a connection in which no byte moves for so long is aborted with
            ``IdleTimeout``; None leaves idle connections alone, as asyncio does.
        half_close_timeout: how long one direction of a relay may go on after the other has ended;
            then both sides are aborted with ``HalfCloseTimeout``. None: as long as it likes. 0: the
            pair ends as soon as one direction has, in order, once what waits is sent both ways.
        close_timeout: how long a connection that was closed may go on while its peer takes no byte
            of what is queued; then it is aborted with ``CloseTimeout``. None: as long as it likes.
        linger_timeout: how long what is unread is still dropped after a close, so that the last
            bytes sent arrive: a close(2) with unread bytes is a reset, which overtakes them (RFC
            1122, 4.2.2.13). 0: not at all. ``connection_lost`` does not wait for it.
        connect_timeout: the longest an outgoing connection may take.
        keepalive: how long a connection is silent until the kernel asks whether its peer is still
            there (SO_KEEPALIVE, TCP_KEEPIDLE, tcp(7)); three questions without an answer, a third
            of this apart, end it with ``ETIMEDOUT``. None: it does not ask. Whole seconds.
        user_timeout: how long what was sent may stay unacknowledged until the kernel ends the
            connection with ``ETIMEDOUT`` (TCP_USER_TIMEOUT, RFC 5482); None: as the kernel has it,
            some 15 minutes.
        stop_timeout: how long ``stop()`` waits for queued bytes before it aborts the connection.
        drain_timeout: how long clients may go on in a drain, once the listeners are closed; then
            they are ended with ``Stopped``. 25 s is what Kubernetes leaves of its 30 s, with some
            to spare. None: as long as they like.
        drain_delay: how long a drain goes on accepting, when ``server.ready`` is false already: a
            load balancer needs so long to notice.
        drain_idle: how long a client may move no byte in a drain, with none queued, until it is
            ended. None: idle ones may stay for ``drain_timeout``, too.
        drain_spread: over how long those that are left are ended, evenly, so that not all of them
            come back in one second. 0: all at once.
        restart_timeout: how long the program that is to take over at a restart may take until it
            serves; then it is ended, and the old one goes on.
        accept_pause: the rest of a listener after accept(2) failed for want of descriptors or
            memory: 0.1 s is at most 10 attempts a second, and a quick recovery.
    """

    connections: int = 100_000
    processes: int = 1_000
    backlog: int = 0
    read_chunk: int = 65_536
    reads_per_turn: int = 16
    accepts_per_turn: int = 64
    write_high: int = 65_536
    write_low: int = 16_384
    write_buffer: int = 67_108_864
    callbacks: int = 1_000_000
    timers: int = 1_000_000
    idle_timeout: float | None = None
    half_close_timeout: float | None = None
    close_timeout: float | None = 60.0
    linger_timeout: float = 2.0
    connect_timeout: float = 10.0
    stop_timeout: float = 5.0
    drain_timeout: float | None = 25.0
    drain_delay: float = 0.0
    drain_idle: float | None = None
    drain_spread: float = 0.0
    restart_timeout: float = 60.0
    accept_pause: float = 0.1
    keepalive: float | None = None
    user_timeout: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        if self.write_low > self.write_high:
            raise ValueError(
                f"Limits.write_low ({self.write_low}) is above write_high ({self.write_high}): "
                "a paused protocol would resume at once"
            )
        if self.write_buffer < self.write_high:
            raise ValueError(
                f"Limits.write_buffer ({self.write_buffer}) is below write_high "
                f"({self.write_high}): a connection would be aborted before it is paused"
            )


_ZERO_SECONDS = {"linger_timeout", "stop_timeout", "drain_timeout", "drain_delay", "drain_spread"}
_ZERO_SECONDS |= {"half_close_timeout"}
_MAY_BE_ZERO = frozenset({"backlog", "write_high", "write_low"} | _ZERO_SECONDS)
_MAY_BE_NONE = frozenset(
    {
        "idle_timeout",
        "half_close_timeout",
        "close_timeout",
        "drain_timeout",
        "drain_idle",
        "keepalive",
        "user_timeout",
    }
)
_SECONDS = _MAY_BE_NONE | _ZERO_SECONDS | {"accept_pause", "connect_timeout", "restart_timeout"}

LONGEST = 315_360_000.0  # s, ten years
_SHORTEST = 1e-6  # s; SO_RCVTIMEO, socket(7), counts microseconds, and its zero means "for ever"
_MOST = 2**31 - 1  # INT_MAX: listen(2) and recv(2) take no more
_MOST_OF = {
    "processes": 4_194_304,  # PID_MAX_LIMIT, proc(5): pid_max
    "read_chunk": 67_108_864,  # ten times what the kernel holds for a connection (tcp_rmem, tcp(7))
}


def seconds(what: str, value: Any) -> float:
    """Return a time that somebody asks for, for a clock: at most ten years.

    Args:
        what: whose time it is, for the message.
        value: seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, infinite or not a number.
    """
    wait = finite(what, value)
    if wait < 0:
        raise ValueError(f"{what} needs seconds of at least 0, not {value!r}")
    return wait


def finite(what: str, value: Any) -> float:
    """Return a time as :func:`seconds` does; a negative one is a time that has passed."""
    if type(value) is float and -LONGEST <= value <= LONGEST:  # nearly always
        return value
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} needs a number of seconds, not {value!r}")
    try:
        wait = float(value)
    except OverflowError:  # a whole number beyond all floats
        return LONGEST if value > 0 else -LONGEST
    if not math.isfinite(wait):
        raise ValueError(f"{what} needs finite seconds, not {value!r}; a day is 86400")
    return max(-LONGEST, min(wait, LONGEST))


def checked(owner: str, limit: str, value: Any, name: str = "") -> Any:
    """Return a value that ``Limits`` takes, or refuse it by the name that it has elsewhere.

    Args:
        owner: the class that it was given to.
        limit: its field of ``Limits``.
        value: the value.
        name: the argument's name; "" means the limit's.

    Raises:
        ValueError: it cannot work.
    """
    try:
        _check(limit, value)
    except ValueError as exc:
        raise ValueError(f"{owner}({name or limit}={value!r}): {exc}") from None
    return value


def _check(name: str, value: Any) -> None:
    """Refuse a value of the wrong type, sign or size, and say what would do."""
    if name in _MAY_BE_NONE and value is None:
        return
    kinds = (int, float) if name in _SECONDS else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "a number of seconds" if name in _SECONDS else "a whole number"
        raise ValueError(f"Limits.{name} must be {wanted}, not {value!r}")
    longer = "; a day is 86400, and None is no limit" if name in _MAY_BE_NONE else ""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Limits.{name} must be finite, not {value!r}{longer}")
    if not (value >= 0 if name in _MAY_BE_ZERO else value > 0):
        bound = "at least 0" if name in _MAY_BE_ZERO else "above 0"
        raise ValueError(f"Limits.{name} must be {bound}, not {value!r}")
    if name in _SECONDS and 0 < value < _SHORTEST:
        raise ValueError(f"Limits.{name} must be at least {_SHORTEST:g}, not {value!r}")
    most = int(LONGEST) if name in _SECONDS else _MOST_OF.get(name, _MOST)
    if value > most:
        raise ValueError(f"Limits.{name} must be at most {most}, not {value!r}{longer}")
