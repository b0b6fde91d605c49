"""What a TLS client says first: the ClientHello, RFC 8446, section 4.1.2.

It is one handshake message and travels in records (section 5.1), one or many, which may be cut
anywhere. Nothing is decrypted: of an Encrypted Client Hello (RFC 9849) this is the outer one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from muxcore.errors import ParseError
from muxcore.parsers.reading import Buffer, Fields, shown, start_of

# Bytes of a hello. With a post-quantum key share it has about 2,000; more than 16 KiB do not pass
# the buffers of HAProxy (tune.bufsize) and nginx (preread_buffer_size) either, as they come.
MAX_HELLO = 16_384
# Each record costs us more than its client. Clients send one; those that hide the name from
# middleboxes cut it into a few.
MAX_RECORDS = 64

RECORD = bytes((22, 3))  # how each of its records begins: a handshake's type, and TLS 1.x
_MAX_RECORD = 16_384  # bytes of plaintext: RFC 8446, section 5.1
# Bytes that are looked at: a hello with all its headers, and the header of one record too many.
_MOST = 4 + MAX_HELLO + 5 * (MAX_RECORDS + 1)
_CLIENT_HELLO, _HOST_NAME = 1, 0
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS, _ENCRYPTED_HELLO = 0, 16, 43, 0xFE0D
_NAME = re.compile(rb"[A-Za-z0-9._-]+")  # what DNS knows; a log or a path may come to see it

# Alerts: RFC 8446, section 6.
_UNEXPECTED_MESSAGE, _RECORD_OVERFLOW, _ILLEGAL_PARAMETER, _DECODE_ERROR = 10, 22, 47, 50


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a TLS client asks for.

    Attributes:
        server_name: the host it wants, RFC 6066, section 3, in lower case and else as sent: an
            internationalised name is in its A-labels (``xn--…``). None if it names none. One of
            letters, digits, ``.``, ``-`` and ``_``, and nothing more is known of it.
        alpn: the protocols it speaks inside TLS, RFC 7301, the preferred one first: ``"h2"``,
            ``"http/1.1"``. They are bytes; each is the character of its number (Latin-1).
        versions: the versions it offers, RFC 8446, section 4.2.1, the preferred one first: 0x0304
            is TLS 1.3. Without that extension ``legacy_version`` alone. The numbers that are there
            to be ignored (GREASE, RFC 8701) are left out.
        legacy_version: the highest version for servers that know no newer than TLS 1.2.
        has_ech: it has an Encrypted Client Hello: another name may be inside, or noise.
    """

    server_name: str | None
    alpn: tuple[str, ...]
    versions: tuple[int, ...]
    legacy_version: int
    has_ech: bool


def tls_alert(description: int) -> bytes:
    """Return a fatal alert, to answer a hello with: 112 is unrecognized_name, 109
    missing_extension, 120 no_application_protocol; RFC 8446, section 6, has all.

    Raises:
        ValueError: the description is not one byte.
    """
    return bytes((21, 3, 3, 0, 2, 2, description))


def tls_client_hello(data: Buffer) -> ClientHello | None:
    """Read a ClientHello, RFC 8446, section 4.1.2.

    Args:
        data: all bytes that have come so far; what follows the hello is not looked at.

    Returns:
        None while more bytes are needed. A call costs a look at each record's header (64 at most),
        and as soon as it is whole one at each field.

    Raises:
        ParseError: this is not TLS (the first two bytes tell), or the hello is malformed, has more
            than ``MAX_HELLO`` bytes or comes in more than ``MAX_RECORDS`` records. The error's
            ``answer`` is the alert that RFC 8446 wants; who does not speak TLS gets none.
    """
    message = _message(start_of(data, _MOST))
    return None if message is None else _hello(message)


def _message(data: bytes) -> bytes | None:
    """Return the handshake message, header included, out of its records."""
    message = bytearray()
    at = records = 0
    need = 0  # bytes of the message, once its header has come
    while True:
        if not data.startswith(RECORD, at):
            if RECORD.startswith(data[at:]):
                return None
            if not at:
                raise ParseError(f"not TLS: it begins with {shown(data)}")
            raise _unexpected(f"another record amid the ClientHello, at byte {at}")
        if len(data) < at + 5:
            return None
        size = data[at + 3] << 8 | data[at + 4]
        if not size:  # forbidden; and many of them would cost us and not the client
            raise _unexpected(f"an empty record, at byte {at}")
        if size > _MAX_RECORD:
            why = f"malformed: a record of {size} bytes, {_MAX_RECORD} may be, at byte {at}"
            raise ParseError(why, tls_alert(_RECORD_OVERFLOW))
        if records == MAX_RECORDS:
            raise _unexpected(f"a ClientHello in more than {MAX_RECORDS} records, at byte {at}")
        records += 1
        at += 5
        message += data[at : at + size]
        at += size
        need = need or _size(message)
        if len(message) >= need > 0:  # what follows in its record is not ours to judge
            return bytes(message[:need])


def _size(message: bytearray) -> int:
    """Return the bytes of the message, or 0 as long as its header has not come."""
    if message and message[0] != _CLIENT_HELLO:
        raise _unexpected(f"handshake message {message[0]} where a ClientHello (1) begins")
    if len(message) < 4:
        return 0
    size = int.from_bytes(message[1:4])
    if size > MAX_HELLO:
        why = f"too long: a ClientHello of {size} bytes, {MAX_HELLO} may be"
        raise ParseError(why, tls_alert(_ILLEGAL_PARAMETER))
    return 4 + size


def _unexpected(why: str) -> ParseError:
    return ParseError(f"malformed: {why}", tls_alert(_UNEXPECTED_MESSAGE))


def _hello(message: bytes) -> ClientHello:
    """Read a message that is whole."""
    hello = Fields(message, 4, len(message), "ClientHello", tls_alert(_DECODE_ERROR))
    legacy_version = hello.number(2, "legacy_version")
    hello.take(32, "random")
    session = hello.vector(1, "legacy_session_id")
    if len(session.left) > 32:
        raise session.wrong("legacy_session_id of more than 32 bytes")
    suites = hello.vector(2, "cipher_suites")
    if not suites.left or len(suites.left) % 2:
        raise suites.wrong("cipher_suites that are no pairs of bytes")
    hello.vector(1, "legacy_compression_methods")
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = (legacy_version,)
    kinds = set()
    if hello.at < hello.end:  # before TLS 1.3 there may be none
        extensions = hello.vector(2, "extensions")
        hello.finish("the ClientHello")
        while extensions.at < extensions.end:
            begin = extensions.at
            kind = extensions.number(2, "an extension's type")
            content = extensions.vector(2, f"extension {kind}")
            if kind in kinds:  # section 4.2; an upstream could take the other one
                extensions.at = begin
                twice = tls_alert(_ILLEGAL_PARAMETER)
                raise extensions.wrong(f"extension {kind} a second time", twice)
            kinds.add(kind)
            if kind == _SERVER_NAME:
                server_name = _server_name(content)
            elif kind == _ALPN:
                alpn = _alpn(content)
            elif kind == _SUPPORTED_VERSIONS:
                versions = _versions(content)
    return ClientHello(server_name, alpn, versions, legacy_version, _ENCRYPTED_HELLO in kinds)


def _server_name(extension: Fields) -> str:
    """Return the name: RFC 6066, section 3."""
    entries = extension.vector(2, "server_name_list")
    extension.finish("server_name")
    kind = entries.number(1, "name_type")
    entry = entries.vector(2, "HostName")
    entries.finish("server_name_list")  # one name of a type, and there is one type
    name = entry.left
    if kind != _HOST_NAME:
        raise entry.wrong(f"a server name of type {kind}, where host_name (0) is all there is")
    if not _NAME.fullmatch(name):
        raise entry.wrong(f"a server name that no host has: {shown(name)}")
    return name.decode().lower()  # ASCII; host names are compared without regard to case


def _alpn(extension: Fields) -> tuple[str, ...]:
    """Return the protocols: RFC 7301, section 3.1."""
    names = extension.vector(2, "protocol_name_list")
    extension.finish("application_layer_protocol_negotiation")
    found: list[str] = []
    while names.at < names.end or not found:
        name = names.vector(1, "ProtocolName")
        if not name.left:
            raise name.wrong("an empty ProtocolName")
        found.append(name.left.decode("latin-1"))
    return tuple(found)


def _versions(extension: Fields) -> tuple[int, ...]:
    """Return the versions: RFC 8446, section 4.2.1."""
    versions = extension.vector(1, "versions")
    extension.finish("supported_versions")
    found: list[int] = []
    while versions.at < versions.end or not found:
        found.append(versions.number(2, "a version"))
    return tuple(each for each in found if not _is_grease(each))


def _is_grease(value: int) -> bool:
    """Return whether it is one of 0x0A0A, 0x1A1A … 0xFAFA: RFC 8701, section 2."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF
