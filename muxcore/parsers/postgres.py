"""The first packet of a PostgreSQL client: its documentation, chapter "Message Formats".

It has a length, a code and no type. The code is the protocol's version in a StartupMessage, or the
number of one of three requests that come in its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from muxcore.errors import ParseError
from muxcore.parsers.reading import Buffer, Fields, shown, start_of

# Bytes after the length: MAX_STARTUP_PACKET_LENGTH, the server's own.
MAX_PACKET = 10_000

CANCEL, SSL, GSS = 80_877_102, 80_877_103, 80_877_104  # 1234 and 5678 … 5680, 16 bits each
VERSION_3 = 3  # the upper half of the code: protocol 3.0 and later
_KEPT = "surrogateescape"  # what is done with bytes that are no UTF-8
_MAX_SECRET = 256  # bytes: of a key from protocol 3.2 on; before, it had 4

_VIOLATION, _UNSUPPORTED, _NO_USER = "08P01", "0A000", "28000"  # SQLSTATE: appendix A
_SQLSTATE = re.compile("[0-9A-Z]{5}")


@dataclass(frozen=True, slots=True)
class PostgresStartup:
    """What a PostgreSQL client wants first.

    Attributes:
        kind: "startup" begins a session, "cancel" ends another one's query. "ssl" and "gss" ask
            for encryption, and wait: answer with one byte, ``S`` or ``G`` and the handshake, or
            ``N`` for no, and the client goes on in the clear with its next packet. What it sent
            *before* the answer would be taken as if it had come encrypted: whoever agrees has to
            refuse a client with more than ``size`` bytes.
        size: bytes of the packet; the next one begins there.
        protocol: (major, minor) of a "startup": (3, 0), or (3, 2) from PostgreSQL 18 on.
        parameters: of a "startup": ``user``, ``database``, ``application_name`` and the like. The
            bytes are read as UTF-8; what is none is kept as ``os.fsdecode`` does.
        user: the user of a "startup".
        database: its database: the user's name if it names none, as the server has it.
        process_id: of the session that a "cancel" is about.
        secret: what proves that a "cancel" may do so.
    """

    kind: Literal["startup", "ssl", "gss", "cancel"]
    size: int
    protocol: tuple[int, int] | None = None
    parameters: dict[str, str] = field(default_factory=dict, hash=False)
    user: str | None = None
    database: str | None = None
    process_id: int | None = None
    secret: bytes = field(default=b"", repr=False)


def postgres_error(sqlstate: str, message: str) -> bytes:
    """Return a fatal ErrorResponse, to answer a startup with, and then to close.

    Args:
        sqlstate: five characters: 3D000 is invalid_catalog_name (there is no such database), 57P03
            cannot_connect_now, 28000 invalid_authorization_specification; appendix A of
            PostgreSQL's documentation has all.
        message: what the client shows its user, in one sentence. A name of a startup may stand in
            it, with the bytes that are no UTF-8.

    Raises:
        ValueError: ``sqlstate`` is not five digits and capital letters, or the message has a NUL.
    """
    if not _SQLSTATE.fullmatch(sqlstate):
        raise ValueError(f"an SQLSTATE is five digits and capital letters, not {sqlstate!r}")
    if "\0" in message:
        raise ValueError(f"an ErrorResponse ends its message with a NUL: {message!r} has one")
    fields = ("SFATAL", "VFATAL", f"C{sqlstate}", f"M{message}", "")
    body = b"".join(each.encode(errors=_KEPT) + b"\0" for each in fields)
    return b"E" + (4 + len(body)).to_bytes(4) + body


def postgres_startup(data: Buffer) -> PostgresStartup | None:
    """Read a StartupMessage, an SSLRequest, a GSSENCRequest or a CancelRequest.

    After "ssl" and "gss" a client sends another of them, over TLS or in the clear: read again then,
    from ``size`` on. Names longer than the server's (63 bytes) are not cut, as it would.

    Args:
        data: all bytes that have come so far; what follows the packet is not looked at.

    Returns:
        None while more bytes are needed. A call costs next to nothing until the packet is whole.

    Raises:
        ParseError: this is none of them (mostly the first byte tells), it is malformed, has more
            than ``MAX_PACKET`` bytes after its length, an older protocol, no user or a parameter
            twice. The error's ``answer`` is a server's ErrorResponse where it would send one.
    """
    head = start_of(data, 8)
    if is_too_long(head):
        raise ParseError(f"not PostgreSQL: it begins with {shown(head)}")
    if is_too_short(head):
        raise ParseError(f"malformed PostgreSQL packet: its length is {int.from_bytes(head[:4])}")
    if len(head) < 8:
        return None
    size, code = int.from_bytes(head[:4]), int.from_bytes(head[4:])
    if code in (SSL, GSS):
        _check_size(size, 8, 8)
        return PostgresStartup("ssl" if code == SSL else "gss", size)
    if code == CANCEL:
        _check_size(size, 16, 12 + _MAX_SECRET)
    elif code >> 16 != VERSION_3:
        version = f"{code >> 16}.{code & 0xFFFF}"
        why = f"PostgreSQL protocol {version}, where 3.x is expected"
        answer = postgres_error(_UNSUPPORTED, f"unsupported frontend protocol {version}")
        raise ParseError(why, answer)
    if len(data) < size:
        return None
    packet = start_of(data, size)
    if code == CANCEL:
        process_id = int.from_bytes(packet[8:12])
        return PostgresStartup("cancel", size, process_id=process_id, secret=packet[12:])
    parameters = _parameters(packet)
    if not (user := parameters.get("user")):
        why = "no PostgreSQL user name specified in startup packet"
        raise ParseError(why, postgres_error(_NO_USER, why))
    database = parameters.get("database") or user
    return PostgresStartup("startup", size, (code >> 16, code & 0xFFFF), parameters, user, database)


def is_too_long(start: bytes) -> bool:
    """Whether the length is above a server's cap; the bytes of it that are to come may all be 0."""
    return int.from_bytes(start[:4].ljust(4, b"\0")) > 4 + MAX_PACKET


def is_too_short(start: bytes) -> bool:
    """Whether the length, once it has come, has no room for itself and a code."""
    return len(start) >= 4 and int.from_bytes(start[:4]) < 8


def _check_size(size: int, least: int, most: int) -> None:
    if not least <= size <= most:
        raise ParseError(f"malformed PostgreSQL packet: a request of {size} bytes")


def _parameters(packet: bytes) -> dict[str, str]:
    """Read names and values, each with a NUL behind it, up to an empty name."""
    answer = postgres_error(_VIOLATION, "invalid startup packet layout")
    fields = Fields(packet, 8, len(packet), "PostgreSQL startup packet", answer)
    found: dict[str, str] = {}
    while name := _string(packet, fields):
        if name in found:  # the server takes the last; who else reads it may take the first
            raise fields.wrong(f"the parameter {shown(name.encode(errors=_KEPT))} a second time")
        found[name] = _string(packet, fields)
    fields.finish("it, after the last parameter")
    return found


def _string(packet: bytes, fields: Fields) -> str:
    end = packet.find(b"\0", fields.at)
    if end < 0:
        raise fields.wrong("no NUL where a name or a value ends")
    text = fields.take(end - fields.at, "a string")
    fields.at += 1
    return text.decode(errors=_KEPT)
