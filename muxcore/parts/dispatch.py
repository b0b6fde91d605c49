"""Calling a protocol, and the one place where an error in a callback is handled.

An exception in any callback closes that connection, and no other: ``asyncio.CancelledError`` and
``GeneratorExit``, which are no ``Exception``, included. ``SystemExit`` and ``KeyboardInterrupt``
mean the program, not the connection: they pass through and end the engine.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from muxcore.address import Address
from muxcore.errors import ServiceError
from muxcore.protocol import CALLBACKS, AnyProtocol, Service, Verb, verb_of

logger = logging.getLogger("muxcore")

T = TypeVar("T")


class Failable(Protocol):
    """What can be closed because of an error: every transport."""

    def _fail(self, exc: BaseException | None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Watched(Failable, Protocol):
    """The same, of an engine of ours."""

    _engine: Any


_NAMES = (*CALLBACKS, "connection_lost")
_NEVER_RUN = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def check_service(service: Any) -> None:
    """Refuse what cannot be a service, as far as one can tell without calling it.

    Raises:
        ServiceError: it is not callable, or it or a callback is a coroutine or a generator.
    """
    if not callable(service):
        raise ServiceError(
            f"a service is a class or another callable that returns a protocol, not {service!r}"
            f"; pass {type(service).__name__} itself"
        )
    if isinstance(service, type) or hasattr(service, "__dict__"):
        _check(service, type(service).__call__)
    else:
        _check_once(type(service))


def _check(owner: Any, call: Any) -> None:
    if _never_runs(owner) or _never_runs(call):
        raise ServiceError(
            f"service {describe(owner)} is a coroutine or generator function: calling it would "
            "return no protocol; write a plain function"
        )
    _refuse_coroutines(owner)
    _refuse_relay(owner)


def _check_class(kind: Any) -> None:
    """Check services that have nothing of their own, such as a search for an upstream."""
    _check(kind, kind.__call__)


_check_once: Callable[[Any], None] = functools.lru_cache(64)(_check_class)


def _never_runs(call: Any) -> bool:
    code = getattr(call, "__code__", None)
    return bool(code is not None and code.co_flags & _NEVER_RUN)


def _refuse_coroutines(owner: Any) -> None:
    """Refuse callbacks of which a call would only make an object that nobody runs."""
    for name in _NAMES:
        if _never_runs(getattr(owner, name, None)):
            raise ServiceError(
                f"{describe(owner)}.{name} is a coroutine or a generator: callbacks are plain "
                "functions (write def without async and without yield)"
            )


def _refuse_relay(owner: Any) -> None:
    """Refuse a relay that is declared: it takes another side."""
    if verb_of(owner) is Verb.RELAY:
        raise ServiceError(
            f"{describe(owner)} declares the verb relay, which takes another side: call "
            "transport.relay(peer), or take muxcore.Relay(address)"
        )


def _look_at(kind: type) -> bool:
    """Whether a protocol's class has callbacks, or a verb."""
    _refuse_coroutines(kind)
    return any(hasattr(kind, name) for name in (*_NAMES, "verb"))


# One look at a class; those that are made anew for each client are let go in the end
_has_callbacks: Callable[[Any], bool] = functools.lru_cache(256)(_look_at)


def make_protocol(service: Service) -> AnyProtocol:
    """Call the service for a new connection.

    Raises:
        ServiceError: it returned something that is no protocol, has coroutines for callbacks, or
            declares a relay.
    """
    return _made(service)[0]


def _made(service: Service) -> tuple[AnyProtocol, Verb | None]:
    """Return a new protocol, and the verb that it declares."""
    protocol = service()
    if not _has_callbacks(type(protocol)) and not any(
        hasattr(protocol, name) for name in (*_NAMES, "verb")
    ):
        raise ServiceError(
            f"service {describe(service)} returned {protocol!r}, which has none of a protocol's "
            f"callbacks ({', '.join(CALLBACKS[:2])}, …)"
        )
    verb = verb_of(protocol)  # an instance may have one of its own
    if verb is Verb.RELAY:
        _refuse_relay(protocol)
    return protocol, verb


def made_for(
    service: Service, make: Callable[[AnyProtocol], T], count: Callable[[BaseException], object]
) -> tuple[T, Verb | None] | None:
    """Call the service for a connection.

    Args:
        service: it.
        make: returns the transport of the protocol that it returned.
        count: told of the error where that has failed, which is logged.

    Returns:
        That transport and the verb that the service declares; None where it has failed, if only
        by a property that raises when its protocol is looked at.
    """
    try:
        protocol, verb = _made(service)
        return make(protocol), verb_of(service) or verb
    except BaseException as exc:
        let_pass(exc)
        logger.error("service %s failed; its client is refused", describe(service), exc_info=exc)
        count(exc)
        return None


def call(transport: Failable, protocol: AnyProtocol, callback: str, *args: Any) -> Any:
    """Call a callback by name if the protocol has it; an exception closes the connection.

    Returns:
        What the callback returned; None where it is missing or failed.
    """
    try:
        method = getattr(protocol, callback, None)
        return None if method is None else method(*args)
    except BaseException as exc:
        failed(transport, protocol, callback, exc)
        return None


def lost(transport: Watched, protocol: AnyProtocol, exc: BaseException | None) -> None:
    """Let a protocol hear of the end, and then who else is to: see ``witnesses.py``."""
    try:
        call(transport, protocol, "connection_lost", exc)
    finally:
        witnesses = transport._engine.witnesses
        if witnesses and (witness := witnesses.pop(transport, None)) is not None:
            call(transport, witness, "connection_lost", exc)


def failed(transport: Failable, protocol: AnyProtocol, callback: str, exc: BaseException) -> None:
    """Handle an exception that a callback raised: log it, and close the connection with it.

    Raises:
        SystemExit, KeyboardInterrupt: ``exc`` is one, and means the program.
    """
    let_pass(exc)
    logger.error(
        "%s.%s failed; its connection with %s is closed",
        type(protocol).__name__,
        callback,
        peer_of(transport),
        exc_info=exc,
    )
    transport._fail(exc)


def let_pass(exc: BaseException) -> None:
    """Raise again what means the program: ``SystemExit`` and ``KeyboardInterrupt``."""
    if isinstance(exc, SystemExit | KeyboardInterrupt):
        raise exc


def share_of(service: Any, number: int, count: int) -> Any:
    """Return what one of several workers serves: a service whose limits are shared out says so.

    Args:
        service: what all of them serve.
        number: of the worker, from 1 on.
        count: of workers.
    """
    shares = hook_of(service, "share_of")
    return service if shares is None else shares(number, count)


def hook_of(service: Any, name: str) -> Callable[..., Any] | None:
    """Return what a service object wants to hear by a name, or None; a class is told nothing."""
    return None if isinstance(service, type) else getattr(service, name, None)


def peer_of(transport: Failable) -> str:
    """Return a connection's peer for messages."""
    peername = transport.get_extra_info("peername")
    if isinstance(peername, tuple):
        return str(Address(*peername[:2]))
    return "a peer without a name"  # a unix socket's, or reset before it could be asked for


def run_call(call: Any, args: tuple[Any, ...]) -> None:
    """Run what ``call_later`` or ``call_soon_threadsafe`` queued; an exception is logged."""
    try:
        call(*args)
    except BaseException as exc:
        let_pass(exc)
        logger.error("a call that was queued failed: %s", describe(call), exc_info=exc)


def describe(service: Any) -> str:
    """Return a short name of a service for messages."""
    return getattr(service, "__qualname__", None) or repr(service)
