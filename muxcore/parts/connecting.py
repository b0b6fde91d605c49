"""Outgoing connections: from an address to a connection, or to one error that says why not.

A name may have several addresses, and some of them may be dead. They are tried as RFC 8305 ("Happy
Eyeballs") has it: the families in turns, the next attempt when the last has failed or a quarter of
a second after it began; the first to be connected wins, and the others are dropped. Looking a name
up blocks, so threads do that (``lookups.py``); an IP address needs none. A lookup that takes too
much of the time for all is not waited for where it is known what the name meant before.

A unix socket whose backlog is full answers EAGAIN at once, where TCP would let the connection wait:
it is tried again until the deadline.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from muxcore import address as addresses
from muxcore.abc import Engine
from muxcore.address import Address
from muxcore.errors import ConnectTimeout
from muxcore.limits import Limits
from muxcore.parts import dispatch, lookups
from muxcore.parts.answers import Found
from muxcore.protocol import Handle, Service

_NEXT_AFTER = 0.25  # s; RFC 8305, section 8: the recommended Connection Attempt Delay
_LATE = 0.25  # of the time for all: a lookup takes no more, if the last answer can stand in
FULL_AGAIN = 0.05  # s between tries of a full backlog: a server that lives takes the next in less


class Attempt(Protocol):
    """One connect(2) on its way; ``done`` of :meth:`Connects.attempt` is told how it ends."""

    def open(self, service: Service) -> None:
        """Serve it: it is connected."""

    def cancel(self) -> None:
        """Close it; nobody is told."""


class Connects(Protocol):
    """What a connection on its way sees of its engine."""

    limits: Limits
    owner: int | None
    ending: bool
    connecting: dict[Connecting, None]

    def refuse_thread(self, what: str) -> None:
        """Raise if another thread runs the engine than this one."""

    def attempt(
        self, family: int, sockaddr: Any, done: Callable[[Attempt, int], object]
    ) -> Attempt:
        """Begin connect(2).

        Args:
            family: of the address.
            sockaddr: the address, as Python's ``socket`` writes it.
            done: called in a later turn, once, with this attempt and an errno, 0 if it is
                connected; not after ``cancel()``.
        """

    def outgoing(self) -> int:
        """Return how many outgoing connections are open, or on their way."""

    def connect_failed(self, exc: BaseException) -> None:
        """Count a connection that did not come about."""

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Queue a call of the engine's own, in its thread: this turn's end, or the next."""

    def call_from_thread(self, call: Callable[..., object], *args: Any) -> None:
        """Queue one from any thread; after the engine's end it is dropped."""

    def alarm(self, delay: float, call: Callable[..., object]) -> Handle:
        """Queue one for later, in seconds."""


class Connecting:
    """One outgoing connection on its way; what ``connect()`` returns.

    Args:
        engine: the engine.
        where: the address.
        service: its protocol gets ``connection_made``, or ``connection_lost(exc)`` alone.
        timeout: seconds for all of it.

    Raises:
        ServiceError: the service cannot be one.
    """

    __slots__ = (
        "_attempts",
        "_deadline",
        "_engine",
        "_errors",
        "_left",
        "_looking",
        "_next",
        "_service",
        "_timeout",
        "_where",
    )

    def __init__(self, engine: Connects, where: Address, service: Service, timeout: float) -> None:
        dispatch.check_service(service)
        known = addresses.literal(where)
        self._engine = engine
        self._where = where
        self._service: Service | None = service  # None: it is over
        self._timeout = timeout
        self._attempts: dict[Attempt, tuple[int, Any]] = {}  # those on their way, and where to
        self._left: deque[tuple[int, Any]] = deque(known)  # addresses not tried yet
        self._errors: list[tuple[int, str]] = []
        self._looking = False  # its name up
        self._next: Handle | None = None  # timer of the next attempt, or of a lookup that is late
        self._deadline: Handle | None = None
        # C counts what is open or in connect(2), and not those of which the name is looked up
        refusal = refused(engine, where, max(engine.outgoing(), len(engine.connecting)))
        engine.connecting[self] = None  # from here on it is the engine's to end
        if refusal is not None:
            engine.call_soon(self._failed, refusal)
        elif engine.owner is None:  # it does not run yet
            engine.call_soon(self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._service is None:
            return
        self._deadline = self._engine.alarm(self._timeout, self._too_late)
        if self._left:
            self._try_next()
            return
        known = lookups.look_up(self._where, self._answered)
        if known is not None:
            self._try(known)
            return
        self._looking = True
        self._next = self._engine.alarm(self._timeout * _LATE, self._late)

    def cancel(self) -> None:
        """Drop it: its service hears nothing. Harmless, and idempotent, after an outcome."""
        if get_ident() != self._engine.owner:
            self._engine.refuse_thread("cancel()")
        self._end()

    def fail(self, exc: BaseException) -> None:
        """End it with an error, which its protocol hears in ``connection_lost``."""
        self._failed(exc)

    # -- addresses

    def _answered(self, found: Found | OSError) -> None:
        """Hear how the lookup ended, in another thread."""
        self._engine.call_from_thread(self._resolved, found)

    def _late(self) -> None:
        known = lookups.late(self._where, self._answered)
        if known is not None:
            self._looking = False  # for this one
            self._try(known)

    def _resolved(self, found: Found | OSError) -> None:
        self._looking = False
        if isinstance(found, OSError):
            why = f"cannot connect to {self._where}: {found.strerror or found}"
            kind = socket.gaierror if isinstance(found, socket.gaierror) else OSError
            self._failed(kind(found.errno, why))
        else:
            self._try(found)

    def _try(self, found: Found) -> None:
        self._left.extend(_in_turns(found))
        self._try_next()

    # -- attempts

    def _try_next(self) -> None:
        if self._service is None or not self._left:
            return
        if self._next is not None:
            self._next.cancel()
        where = self._left.popleft()
        self._attempts[self._engine.attempt(*where, self._done)] = where
        if self._left:
            self._next = self._engine.alarm(_NEXT_AFTER, self._try_next)

    def _done(self, attempt: Attempt, error: int) -> None:
        """Hear that an attempt is connected, or has failed; never within attempt()."""
        where = self._attempts.pop(attempt)
        if error == errno.EAGAIN and where[0] == socket.AF_UNIX:  # connect(2): the backlog is full
            self._left.append(where)
            self._next = self._engine.alarm(FULL_AGAIN, self._try_next)
        elif error:
            self._errors.append((error, addresses.from_sockaddr(*where)))
            if self._left:
                self._try_next()
            elif not self._attempts:
                self._failed(failure(self._where, self._errors))
        else:
            service = self._service
            self._end()
            if service is not None:
                attempt.open(service)

    def _too_late(self) -> None:
        self._failed(ConnectTimeout(str(self._where), self._timeout, not self._looking))

    # -- the end

    def _failed(self, exc: BaseException) -> None:
        service = self._service
        if service is None:
            return
        self._end()
        self._engine.connect_failed(exc)
        tell_failed(service, exc)

    def _end(self) -> None:
        self._service = None
        self._left.clear()
        if self._looking:
            self._looking = False
            lookups.forget(self._where, self._answered)
        for timer in (self._deadline, self._next):
            if timer is not None:
                timer.cancel()
        for attempt in self._attempts:
            attempt.cancel()
        self._attempts.clear()
        self._engine.connecting.pop(self, None)


# -- how it fails


def ended() -> OSError:
    """Return the error of a connection that the end of the server overtook."""
    return ConnectionAbortedError(errno.ECONNABORTED, "the server is ending")


def refused(engine: Connects | Engine, where: Address, outgoing: int) -> OSError | None:
    """Return why a connection must not even be tried, or None.

    Args:
        engine: the engine.
        where: the address.
        outgoing: how many are open, or on their way.
    """
    if engine.ending:
        return ended()
    if outgoing >= engine.limits.connections:
        reason = f"cannot connect to {where}: as many are open as Limits.connections allows"
        return OSError(errno.EAGAIN, reason)
    return None


def failure(where: Address, errors: list[tuple[int, str]]) -> OSError:
    """Return the one error that says why none of the addresses would do.

    Args:
        where: what was asked for.
        errors: (errno, address) of each that was tried.
    """
    reasons = {tried: os.strerror(error) for error, tried in errors}
    why = "; ".join(f"{tried}: {reason}" for tried, reason in reasons.items())
    if list(reasons) == [str(where)]:
        why = reasons[str(where)]
    return OSError(errors[-1][0], f"cannot connect to {where}: {why}")


def tell_failed(service: Service, exc: BaseException) -> None:
    """Let the service's protocol hear that there is no connection."""
    try:
        protocol = dispatch.make_protocol(service)
    except BaseException as broken:
        dispatch.let_pass(broken)
        name = dispatch.describe(service)
        dispatch.logger.error("service %s failed after %s", name, exc, exc_info=broken)
        return
    dispatch.run_call(getattr(protocol, "connection_lost", _nobody), (exc,))


def _nobody(exc: BaseException) -> None:
    """Stand in for a ``connection_lost`` that the protocol does not have."""


# -- names and addresses


def _in_turns(found: Found) -> Found:
    """Let the families take turns, that of the first address first (RFC 8305, section 4)."""
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [each for pair in pairs for each in pair if each is not None]
