"""One line for each connection of a relay: who, with whom, how much, how long, and how it ended.

What strangers say stays in its line: names and texts that come from outside are escaped, in JSON by
JSON itself, in text where a character is not printable.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from typing import Any, TypeAlias

from muxcore import address
from muxcore.errors import FirstByteTimeout, HalfCloseTimeout, IdleTimeout, MuxcoreError, Stopped
from muxcore.parts.searching import Try

logger = logging.getLogger("muxcore.access")

_numbers = itertools.count(1)


@dataclass(slots=True)  # not frozen: that would take 2 us a connection
class Record:
    """How one client's connection went.

    Attributes:
        time: when it ended, or began, UTC, as in RFC 3339.
        client: its address; "unix" for one without a name.
        upstream: the address it was joined with; "" if with none.
        bytes_up: received from the client.
        bytes_down: sent to the client.
        seconds: from accept to the end.
        ended: "closed", "reset by client", "reset by upstream", "idle", "half-close", "first byte"
            (the upstream's was late), "refused" (no upstream could be had), "stopped" (by the
            server's end), "killed" (by whoever steers it), or what else failed, in words.
        failures: of the upstreams that were tried, which failed and why, in order; then what was
            the matter with those that were not, where the client is refused.
        event: "end", or "start" where the log was asked for that, too.
        id: the process and the connection's number in it, as "4711-12": one of its own in all
            workers, and the same as ``muxcore admin`` has.
        listener: the address that the client connected to.
        pool: the name of the upstream's pool.
        connect: seconds that connecting to ``upstream`` took; None where there is none.
        first_byte: seconds from accept to the upstream's first byte; None: none came, or nobody
            knows: the adapters never do, and native-epoll at the end.
        tries: the upstreams that were tried and failed, in order, each with ``upstream``, ``why``
            and ``seconds``.
    """

    time: str
    client: str
    upstream: str
    bytes_up: int
    bytes_down: int
    seconds: float
    ended: str
    failures: tuple[str, ...]
    event: str = "end"
    id: str = ""
    listener: str = ""
    pool: str = ""
    connect: float | None = None
    first_byte: float | None = None
    tries: tuple[Try, ...] = ()


FIELDS = tuple(field.name for field in fields(Record))

Sink: TypeAlias = Callable[[Record], object]


class AccessLog:
    """What a relay's log has in it: ``muxcore.Relay(…, access_log=AccessLog("json", start=True))``.

    Each line goes to the logger ``muxcore.access``, at level INFO.

    Args:
        format: "text", a line for people; or "json", an object a line.
        fields: names of fields of ``Record``: those are there, in this order, in text as
            ``name=value``. Empty: "json" has all of them, "text" is a sentence.
        start: a line when a client has come, too; its ``event`` is "start".

    Raises:
        ValueError: there is no such format, or no such field.
    """

    def __init__(
        self,
        format: str = "text",  # noqa: A002, the word that users know
        *,
        fields: Iterable[str] = (),
        start: bool = False,
    ) -> None:
        if format not in ("text", "json"):
            raise ValueError(
                f"AccessLog(format=…): format must be 'text' or 'json', not {format!r}"
            )
        if isinstance(fields, str):
            raise ValueError(
                f"AccessLog(fields=…): fields must be a list of names, such as [{fields!r}]"
            )
        self.format = format
        self.fields = tuple(fields)
        self.start = start
        for name in self.fields:
            if name not in FIELDS:
                raise ValueError(
                    f"AccessLog(fields=…): fields must be of {', '.join(FIELDS)}; there is no "
                    f"{name!r}"
                )

    def __call__(self, record: Record) -> None:
        if logger.isEnabledFor(logging.INFO):
            is_text = self.format == "text"
            line = (as_text if is_text else as_json)(record, self.fields)
            _write(line, f"{record.time} " if is_text and not self.fields else "")


def _write(line: str, time: str) -> None:
    """Give a line to the logger; or to its only handler, where that takes lines as they are.

    A ``LogRecord`` and its way through the logger cost more than all else that a line does.

    Args:
        line: it.
        time: what stands before it in a file; a logger's handlers have a time of their own.
    """
    handlers = logger.handlers
    if len(handlers) == 1 and not (logger.propagate or logger.filters or logger.disabled):
        take: Callable[[str], object] | None = getattr(handlers[0], "take_line", None)
        if take is not None:
            take(time + line)
            return
    # not info(), which looks for the line of ours that calls it
    logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None))


def sink(access_log: str | Sink | None) -> Sink | None:
    """Return what takes the records.

    Raises:
        ValueError: it is neither "text", nor "json", nor callable, nor None.
    """
    if access_log is None or callable(access_log):
        return access_log
    if access_log not in ("text", "json"):
        raise ValueError(
            f"access_log must be 'text', 'json', an AccessLog, a callable or None, not "
            f"{access_log!r}"
        )
    return AccessLog(access_log)


def new_id() -> str:
    """Return the name of a connection: this process's number, and a number in it."""
    return f"{os.getpid()}-{next(_numbers)}"


def record_of(
    transport: Any,
    upstream: str,
    seconds: float,
    exc: BaseException | None,
    *,
    ended: str | None = None,
    failures: tuple[str, ...] = (),
    id: str = "",  # noqa: A002, the field's name
    event: str = "end",
    **more: Any,
) -> Record:
    """Return the record of a client whose connection is lost, or as it is now.

    Args:
        transport: the client's.
        upstream: whom it was joined with, or "".
        seconds: how long it was there.
        exc: what ``connection_lost`` heard.
        ended, failures, id, event, more: fields; None, and no id: what is known by itself.
    """
    received, sent = transport._counted()
    return Record(
        _now(),
        client_name(transport.get_extra_info("peername")),
        upstream,
        received,
        sent,
        round(seconds, 6),
        _how_ended(transport, exc, bool(upstream)) if ended is None else ended,
        failures,
        event,
        id or new_id(),
        **more,
    )


def _now() -> str:
    """Return the time, to the millisecond."""
    second, thousandths = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(second)}.{thousandths:03d}+00:00"


@functools.lru_cache(1)  # a busy relay asks thousands of times for the same one
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _how_ended(transport: Any, exc: BaseException | None, joined: bool) -> str:
    if exc is not None:
        return ending(exc)
    return "stopped" if transport._engine.ending or not joined else "closed"


def client_name(peername: Any) -> str:
    """Return a client's address, as far as it has one."""
    if isinstance(peername, tuple):
        return address.joined(*peername[:2])
    return f"unix:{peername}" if peername and isinstance(peername, str) else "unix"


def as_text(record: Record, fields: Iterable[str] = ()) -> str:
    """Return the line for people: a sentence, or the fields that were chosen."""
    if fields:
        return " ".join(f"{name}={_value(getattr(record, name))}" for name in fields)
    if record.event == "start":
        return printable(f"{record.client} has come to {record.listener}")
    took = f"{record.seconds:.3f} s"
    whom = f" to {record.upstream}" if record.upstream else ""
    tried = f" ({'; '.join(record.failures)})" if record.failures else ""
    how = f"{record.bytes_up} bytes up, {record.bytes_down} down, {took}, {record.ended}"
    return printable(f"{record.client}{whom}: {how}{tried}")


def as_json(record: Record, fields: Iterable[str] = ()) -> str:
    """Return the line for programs: an object with the fields that were chosen, or all."""
    form, values = _form_of(tuple(fields) or FIELDS)
    # What json.dumps() returns; but that takes twice as long, be it for each or for all at once.
    return form % tuple(
        [quoted(each) if type(each) is str else _in_json(each) for each in values(record)]
    )


@functools.lru_cache
def _form_of(names: tuple[str, ...]) -> tuple[str, Callable[[Record], Iterable[Any]]]:
    """Return an object of these fields with places for their values, and what gets the values."""
    form = "{" + ", ".join(f'"{name}": %s' for name in names) + "}"
    if len(names) == 1:
        return form, lambda record: (getattr(record, names[0]),)
    return form, attrgetter(*names)


def _in_json(value: Any) -> str:
    kind = type(value)
    if kind is int or kind is float:
        return repr(value)
    if value is None:
        return "null"
    return json.dumps(_data(value)) if value else "[]"


def printable(text: str) -> str:
    """Return a text with what is not printable in it escaped: no line's end, nothing invisible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _value(value: Any) -> str:
    """Return a field's value: as it is where it is one word, else as JSON."""
    if isinstance(value, str) and value and not set(value) & set(' "=\\'):
        return printable(value)
    return json.dumps(_data(value)) if isinstance(value, str | tuple) else str(value)


def _data(value: Any) -> Any:
    if isinstance(value, tuple):
        return [each._asdict() if isinstance(each, Try) else each for each in value]
    return value


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
