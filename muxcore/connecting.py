"""Outgoing connections: from an address to a connection, or to one error that says why not.

A name may have several addresses, and some of them may be dead. They are tried as RFC 8305 ("Happy
Eyeballs") has it: the families in turns, the next attempt when the last has failed or a quarter of
a second after it began; the first to be connected wins, and the others are dropped. Looking a name
up blocks, so a thread does that; an IP address needs none.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from muxcore import address as addresses
from muxcore import dispatch
from muxcore.address import Address
from muxcore.errors import ConnectTimeout
from muxcore.protocol import Service

_NEXT_AFTER = 0.25  # s; RFC 8305, section 8: the recommended Connection Attempt Delay
_LOOKUPS = 16  # threads at most; getaddrinfo(3) may take half a minute where a resolver is silent


Found: TypeAlias = Sequence[tuple[int, Any]]  # (family, sockaddr) of each address


class Connecting:
    """One outgoing connection on its way; what ``connect()`` returns.

    Args:
        engine: its ``attempt`` opens connections, its ``open_attempt`` makes transports of them.
        where: the address.
        service: its protocol gets ``connection_made``, or ``connection_lost(exc)`` alone.
        timeout: seconds for all of it.
    """

    __slots__ = (
        "_attempts",
        "_deadline",
        "_engine",
        "_errors",
        "_left",
        "_next",
        "_service",
        "_timeout",
        "_where",
    )

    def __init__(self, engine: Any, where: Address, service: Service, timeout: float) -> None:
        self._engine = engine
        self._where = where
        self._service: Service | None = service  # None: it is over
        self._timeout = timeout
        self._attempts: dict[Any, tuple[int, Any]] = {}  # those on their way, and where to
        self._left: deque[tuple[int, Any]] = deque()  # addresses not tried yet
        self._errors: list[tuple[int, str]] = []
        self._next: Any = None  # timer of the next attempt
        refusal = refused(engine, where, engine.outgoing())
        engine.connecting[self] = None
        self._deadline = engine.alarm(timeout, self._too_late)
        known = addresses.literal(where)
        if refusal is not None:
            engine.call_soon(self._failed, refusal)
        elif known:
            self._left.extend(known)
            self._try_next()
        else:
            _look_up(self._look_up)

    def cancel(self) -> None:
        """Drop it: its service hears nothing. Harmless, and idempotent, after an outcome."""
        self._end()

    def fail(self, exc: BaseException) -> None:
        """End it with an error, which its protocol hears in ``connection_lost``."""
        self._failed(exc)

    # -- addresses

    def _look_up(self) -> None:
        """Look the name up; in a thread of its own."""
        if self._service is None:
            return
        found: Found | OSError
        try:
            found = addresses.resolve(self._where)
        except OSError as exc:
            why = f"cannot connect to {self._where}: {exc.strerror or exc}"
            found = type(exc)(exc.errno, why)
        try:
            self._engine.call_soon_threadsafe(self._resolved, found)
        except RuntimeError:
            pass  # the engine has ended meanwhile, and this with it

    def _resolved(self, found: Found | OSError) -> None:
        if isinstance(found, OSError):
            self._failed(found)
        else:
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

    def _done(self, attempt: Any, error: int) -> None:
        """Hear that an attempt is connected, or has failed; never within attempt()."""
        where = self._attempts.pop(attempt)
        if error:
            self._errors.append((error, addresses.from_sockaddr(*where)))
            if self._left:
                self._try_next()
            elif not self._attempts:
                self._failed(failure(self._where, self._errors))
            return
        service = self._service
        self._end()
        self._engine.open_attempt(attempt, service)

    def _too_late(self) -> None:
        self._failed(ConnectTimeout(str(self._where), self._timeout))

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
        self._deadline.cancel()
        if self._next is not None:
            self._next.cancel()
        for attempt in self._attempts:
            attempt.cancel()
        self._attempts.clear()
        self._engine.connecting.pop(self, None)


# -- how it fails


def ended() -> OSError:
    """Return the error of a connection that the end of the server overtook."""
    return ConnectionAbortedError(errno.ECONNABORTED, "the server is ending")


def refused(engine: Any, where: Address, outgoing: int) -> OSError | None:
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
    except Exception as broken:
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


# -- looking names up: threads that are there while there is something to look up

_lock = threading.Lock()
_waiting: deque[Callable[[], None]] = deque()
_running = 0


def _look_up(call: Callable[[], None]) -> None:
    global _running
    with _lock:
        _waiting.append(call)
        if _running == _LOOKUPS:
            return
        _running += 1
    threading.Thread(target=_work, name="muxcore-lookup", daemon=True).start()


def _work() -> None:
    global _running
    while True:
        with _lock:
            if not _waiting:
                _running -= 1
                return
            call = _waiting.popleft()
        call()


def _forget_threads() -> None:
    """A fork has copied no thread but its own: what the others were at is not ours."""
    global _lock, _running
    _lock, _running = threading.Lock(), 0
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
