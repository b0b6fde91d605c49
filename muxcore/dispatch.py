"""Calling a protocol, and the one place where an error in a callback is handled.

An exception in any callback closes that connection, and no other. ``SystemExit`` and
``KeyboardInterrupt`` mean the program, not the connection: they pass through and end the engine.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from muxcore.errors import ServiceError
from muxcore.protocol import CALLBACKS, Service

logger = logging.getLogger("muxcore")


class Failable(Protocol):
    """What can be closed because of an error: every transport."""

    def _fail(self, exc: BaseException | None) -> None: ...


def make_protocol(service: Service) -> Any:
    """Call the service for a new connection.

    Raises:
        ServiceError: it returned something that is no protocol.
    """
    protocol = service()
    if protocol is None or not any(
        hasattr(protocol, name) for name in (*CALLBACKS, "connection_lost", "verb")
    ):
        raise ServiceError(
            f"service {describe(service)} returned {protocol!r}, which has none of a protocol's "
            f"callbacks ({', '.join(CALLBACKS[:2])}, …)"
        )
    return protocol


def call(transport: Failable, protocol: Any, callback: str, *args: Any) -> Any:
    """Call a callback by name if the protocol has it; an exception closes the connection.

    Returns:
        What the callback returned; None where it is missing or failed.
    """
    method = getattr(protocol, callback, None)
    if method is None:
        return None
    try:
        return method(*args)
    except Exception as exc:
        failed(transport, protocol, callback, exc)
        return None


def failed(transport: Failable, protocol: Any, callback: str, exc: Exception) -> None:
    """Handle an exception that a callback raised: log it, and close the connection with it."""
    logger.error(
        "%s.%s failed; its connection is closed", type(protocol).__name__, callback, exc_info=exc
    )
    transport._fail(exc)


def run_call(call: Any, args: tuple[Any, ...]) -> None:
    """Run what ``call_later`` or ``call_soon_threadsafe`` queued; an exception is logged."""
    try:
        call(*args)
    except Exception as exc:
        logger.error("a call that was queued failed: %s", describe(call), exc_info=exc)


def describe(service: Any) -> str:
    """Return a short name of a service for messages."""
    return getattr(service, "__qualname__", None) or repr(service)
