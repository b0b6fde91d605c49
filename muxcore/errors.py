"""Every failure muxcore names, in one place.

Each class says what failed; each message says why, and what to do about it. The errors that a
protocol receives in ``connection_lost`` are ``OSError``s, like the ones the kernel reports, so that
one ``except OSError`` covers both.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any


class MuxcoreError(Exception):
    """The base of every error that muxcore itself raises."""

    _made_of: tuple[Any, ...] | None = None  # what its text is made of: a copy is made of it again

    def __reduce__(self) -> str | tuple[Any, ...]:
        return super().__reduce__() if self._made_of is None else (type(self), self._made_of)


class AddressError(MuxcoreError, ValueError):
    """An address that cannot be meant; the message shows the right spelling."""


class BindError(MuxcoreError, OSError):
    """A listener could not be opened. ``errno`` is the kernel's; the message says what to do."""


class ServiceError(MuxcoreError, TypeError):
    """A service that is not a zero-argument callable, or does not return a protocol."""


class ParseError(MuxcoreError, ValueError):
    """What a peer says first is not what was expected; the text says what, and at which byte.

    Attributes:
        answer: the bytes that tell the peer so in its own protocol; empty where it speaks another,
            or where that has no words for it.
    """

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        self._made_of = (reason, answer)
        super().__init__(reason)
        self.answer = answer


class TooLong(MuxcoreError, ValueError):
    """What was waited for has not come within so many bytes; they are still in the connection.

    Attributes:
        limit: how many.
    """

    def __init__(self, reason: str, limit: int) -> None:
        self._made_of = (reason, limit)
        super().__init__(reason)
        self.limit = limit


class EndOfStream(MuxcoreError, EOFError):
    """The peer has ended before what was waited for; what has come is still in the connection.

    Attributes:
        received: so many bytes.
    """

    def __init__(self, reason: str, received: int) -> None:
        self._made_of = (reason, received)
        super().__init__(reason)
        self.received = received


class ConnectionClosed(MuxcoreError, ConnectionError):
    """The connection was closed by this program, or handed to a verb: it takes no more calls."""


class UnknownEngine(MuxcoreError, LookupError):
    """No engine has this name; the message lists those that there are."""


class EngineUnavailable(MuxcoreError, RuntimeError):
    """The chosen engine is known but cannot run here.

    Attributes:
        name: the engine's name.
        reason: why it cannot run here.
        advice: what to do about it.
    """

    def __init__(self, name: str, reason: str, advice: str = "") -> None:
        super().__init__(name, reason, advice)
        self.name = name
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        text = f"engine {self.name!r} is not available: {self.reason}"
        return f"{text}; {self.advice}" if self.advice else text


class CapabilityMissing(MuxcoreError, RuntimeError):
    """The engine cannot do what the service requires, or what was just asked of it."""


class PidfileError(MuxcoreError, OSError):
    """A pidfile cannot be written, or is another kind of file, which is left as it is."""


class WorkerFailed(MuxcoreError, RuntimeError):
    """A worker cannot serve, or workers die again and again; the text says why."""


class BufferLimitExceeded(MuxcoreError, ConnectionError):
    """A connection's write buffer passed ``Limits.write_buffer``; the connection was aborted."""

    def __init__(self, size: int, limit: int) -> None:
        self._made_of = (size, limit)
        super().__init__(
            errno.ENOBUFS,
            f"write buffer of {size} bytes is above the limit {limit}: the peer reads too slowly: "
            "implement pause_writing, or raise Limits.write_buffer",
        )


class IdleTimeout(MuxcoreError, TimeoutError):
    """No byte moved for ``Limits.idle_timeout`` seconds; the connection was aborted."""

    def __init__(self, seconds: float) -> None:
        self._made_of = (seconds,)
        super().__init__(errno.ETIMEDOUT, f"no byte moved for {seconds:g} s")


class HalfCloseTimeout(MuxcoreError, TimeoutError):
    """A relay's second direction lasted longer than ``Limits.half_close_timeout``."""

    def __init__(self, seconds: float) -> None:
        self._made_of = (seconds,)
        super().__init__(
            errno.ETIMEDOUT, f"one direction has ended, and the other went on for {seconds:g} s"
        )


class CloseTimeout(MuxcoreError, TimeoutError):
    """The peer of a closed connection took nothing for ``Limits.close_timeout`` seconds."""

    def __init__(self, seconds: float) -> None:
        self._made_of = (seconds,)
        super().__init__(
            errno.ETIMEDOUT,
            f"the peer took nothing for {seconds:g} s after the close",
        )


class Stopped(MuxcoreError, ConnectionError):
    """A drain ended the connection: ``Limits.drain_timeout`` was over, or it was idle."""

    def __init__(self) -> None:
        self._made_of = ()
        super().__init__(errno.ECONNABORTED, "stopped: the server is ending")


class ConnectTimeout(MuxcoreError, TimeoutError):
    """An outgoing connection was not established in time."""

    def __init__(self, address: str, seconds: float, is_known: bool = True) -> None:
        self._made_of = (address, seconds, is_known)
        why = "" if is_known else ": its name is still looked up"
        super().__init__(errno.ETIMEDOUT, f"no connection to {address} within {seconds:g} s{why}")


class FirstByteTimeout(MuxcoreError, TimeoutError):
    """An upstream was silent for ``Pool(first_byte_timeout=)`` seconds; the pair was aborted."""

    def __init__(self, upstream: str, seconds: float) -> None:
        self._made_of = (upstream, seconds)
        super().__init__(
            errno.ETIMEDOUT, f"no byte came from {upstream} for {seconds:g} s after the client's"
        )


class PairCut(MuxcoreError, ConnectionError):
    """A pool has aborted a pair: see ``Pool(cut_failing=, cut_backups=)``.

    Args:
        why: what the upstream is, in a few words.
    """

    def __init__(self, why: str) -> None:
        self._made_of = (why,)
        super().__init__(errno.ECONNABORTED, f"cut: its upstream is {why}")


class NoUpstream(MuxcoreError, ConnectionError):
    """None of a pool's upstreams could be had; the text says why, for each that was tried.

    Args:
        reasons: (address, why) of each that was tried, in order.
        full: how many have ``max_active`` clients, or have had their ``rate``, and take no more.
        waited: seconds that it waited for a place among those; None: it did not.

    Attributes:
        reasons: the same; empty where none could even be tried.
        others: what was the matter with those that were not tried, in words.
    """

    def __init__(
        self, reasons: Iterable[tuple[str, str]] = (), full: int = 0, waited: float | None = None
    ) -> None:
        self.reasons = tuple(reasons)
        self._made_of = (self.reasons, full, waited)
        why = [why if where in why else f"{where}: {why}" for where, why in self.reasons]
        others = [f"{full} already with max_active clients, or at their rate"] if full else []
        others += [f"no place came free within {waited:g} s"] if waited is not None else []
        if not why and not others:
            others = ["each is failing, or out"]
        self.others = tuple(others)
        super().__init__(errno.EHOSTUNREACH, f"no upstream could be had: {'; '.join(why + others)}")


def passed_on(exc: BaseException) -> BaseException:
    """Return what a relay's other side hears of an error: one like it, with it as its cause."""
    if type(exc).__module__ != "builtins" or not isinstance(exc, OSError):
        return exc
    heard = type(exc)(*exc.args)
    heard.__cause__ = exc
    return heard
