"""One line for each connection of a relay: who, with whom, how much, how long, and how it ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from muxcore import address
from muxcore.errors import FirstByteTimeout, HalfCloseTimeout, IdleTimeout, MuxcoreError, Stopped

logger = logging.getLogger("muxcore.access")


@dataclass(frozen=True, slots=True)
class Record:
    """How one client's connection went.

    Attributes:
        time: when it ended, UTC, as in RFC 3339.
        client: its address; "unix" for one without a name.
        upstream: the address it was joined with; "" if with none.
        bytes_up: received from the client.
        bytes_down: sent to the client.
        seconds: from accept to the end.
        ended: "closed", "reset by client", "reset by upstream", "idle", "half-close", "first byte"
            (the upstream's was late), "refused" (no upstream could be had), "stopped" (by the
            server's end), or what else failed, in words.
        failures: of the upstreams that were tried, which failed and why, in order.
    """

    time: str
    client: str
    upstream: str
    bytes_up: int
    bytes_down: int
    seconds: float
    ended: str
    failures: tuple[str, ...]


AccessLog: TypeAlias = Callable[[Record], object]


def sink(access_log: str | AccessLog | None) -> AccessLog | None:
    """Return what takes the records.

    Raises:
        ValueError: it is neither "text", nor "json", nor callable, nor None.
    """
    if access_log is None or callable(access_log):
        return access_log
    try:
        return {"text": _log_text, "json": _log_json}[access_log]
    except (KeyError, TypeError):
        raise ValueError(
            f"access_log must be 'text', 'json', a callable or None, not {access_log!r}"
        ) from None


def record_of(
    transport: Any,
    upstream: str,
    seconds: float,
    exc: BaseException | None,
    refused: bool,
    failures: tuple[str, ...],
) -> Record:
    """Return the record of a client whose connection is lost.

    Args:
        transport: the client's.
        upstream: whom it was joined with, or "".
        seconds: how long it was there.
        exc: what ``connection_lost`` heard.
        refused: no upstream could be had.
        failures: of upstreams.
    """
    received, sent = transport.get_extra_info("bytes")
    if refused:
        ended = "refused"
    elif exc is None:
        stopped = transport._engine.ending or not upstream
        ended = "stopped" if stopped else "closed"
    else:
        ended = ending(exc)
    return Record(
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        client_name(transport.get_extra_info("peername")),
        upstream,
        received,
        sent,
        round(seconds, 6),
        ended,
        failures,
    )


def client_name(peername: Any) -> str:
    """Return a client's address, as far as it has one."""
    if isinstance(peername, tuple):
        return str(address.Address(peername[0], peername[1]))
    return "unix"


def as_text(record: Record) -> str:
    """Return the line for people."""
    took = f"{record.seconds:.3f} s"
    whom = f" to {record.upstream}" if record.upstream else ""
    tried = f" ({'; '.join(record.failures)})" if record.failures else ""
    how = f"{record.bytes_up} bytes up, {record.bytes_down} down, {took}, {record.ended}"
    return f"{record.client}{whom}: {how}{tried}"


def as_json(record: Record) -> str:
    """Return the line for programs: an object with the fields of ``Record``."""
    return json.dumps(asdict(record))


def _log_text(record: Record) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", as_text(record))


def _log_json(record: Record) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", as_json(record))


def ending(exc: BaseException) -> str:
    """Return in words what ended the connection of a client, or the pair it is of."""
    if isinstance(exc, IdleTimeout):
        return "idle"
    if isinstance(exc, HalfCloseTimeout):
        return "half-close"
    if isinstance(exc, FirstByteTimeout):
        return "first byte"
    if isinstance(exc, Stopped):
        return "stopped"
    if isinstance(exc, OSError) and not isinstance(exc, MuxcoreError):
        # an error that came from the other side of the relay has that side's as its cause
        side = "upstream" if exc.__cause__ is not None else "client"
        if isinstance(exc, ConnectionError):
            return f"reset by {side}"
        return f"{side}: {exc.strerror or exc}"
    return getattr(exc, "strerror", None) or f"{type(exc).__name__}: {exc}"
