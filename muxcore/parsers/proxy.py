"""The PROXY protocol: by its header a load balancer tells whom it speaks for.

HAProxy's doc/proxy-protocol.txt defines it; the sections named here are that document's. Whoever
may connect may send such a header: read it only from those that are trusted to tell the truth.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from muxcore.errors import ParseError
from muxcore.parsers import proxy_ssl
from muxcore.parsers.proxy_ssl import ProxySsl, first
from muxcore.parsers.reading import Buffer, Fields, address_text, shown, start_of

Endpoint: TypeAlias = "tuple[str, int] | str | None"
Family: TypeAlias = Literal["TCP4", "TCP6", "unix", "UNKNOWN"]

MAX_LINE = 107  # bytes of version 1, CRLF included: section 2.1
# Bytes of version 2. Addresses take 232 at most; a client's certificate may come along, which with
# post-quantum keys has some 6,000. HAProxy cannot send more than its buffer holds (tune.bufsize).
MAX_HEADER = 16_384

LINE = b"PROXY "
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")  # a CR or an LF that is not half of a CRLF
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+")  # ipaddress takes a zone as well
_ENDS = ("source", "destination")
_LEAST = {"TCP4": (7, 7, 1, 1), "TCP6": (2, 2, 1, 1)}  # characters of the words behind a family

# PP2_TYPE_…: section 2.2
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID = 1, 2, 3, 4, 5
SSL, NETNS = 0x20, 0x30


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Whom a proxy speaks for.

    Attributes:
        version: of the protocol, 1 or 2.
        command: "PROXY", or "LOCAL" for a connection of the proxy's own, such as a health check.
        family: "TCP4", "TCP6", "unix", or "UNKNOWN": then the connection's own addresses count.
        source: whence the client came: (host, port), a unix socket's path (``@name`` is abstract,
            "" has no name), or None for "UNKNOWN" and "LOCAL".
        destination: where the client went, likewise.
        tlvs: the (type, value) pairs that follow the addresses, in order, section 2.2; types 1
            (ALPN), 2 (authority), 5 (unique id) and 0x20 (SSL) are the usual ones.
        size: bytes of the header; what the client says begins there.
    """

    version: Literal[1, 2]
    command: Literal["LOCAL", "PROXY"]
    family: Family
    source: Endpoint
    destination: Endpoint
    tlvs: tuple[tuple[int, bytes], ...]
    size: int

    @property
    def alpn(self) -> bytes | None:
        """The application's protocol, such as b"h2"."""
        return first(self.tlvs, ALPN)

    @property
    def authority(self) -> bytes | None:
        """The name that the client asked for, UTF-8; of TLS it is the SNI."""
        return first(self.tlvs, AUTHORITY)

    @property
    def unique_id(self) -> bytes | None:
        """What the proxy calls the connection."""
        return first(self.tlvs, UNIQUE_ID)

    @property
    def netns(self) -> bytes | None:
        """The network namespace that the client came by, US-ASCII."""
        return first(self.tlvs, NETNS)

    @property
    def ssl(self) -> ProxySsl | None:
        """The client's TLS, where the proxy tells of it."""
        value = first(self.tlvs, SSL)
        if value is None:
            return None
        return proxy_ssl.read(Fields(value, 0, len(value), "PROXY header", b""))


def proxy_header(data: Buffer, max_size: int = MAX_HEADER) -> ProxyHeader | None:
    """Read a header of either version.

    Version 1 is taken as strictly as section 2.1 is written: single spaces, no leading zeros, CRLF.
    Of version 2 a "LOCAL" header, and one for no address or a datagram's, are skipped by their
    length, as section 2.2 has it: they have no TLVs here, and no checksum is looked for.

    Args:
        data: all bytes that have come so far; what follows the header is not looked at.
        max_size: bytes that a header of version 2 may have.

    Returns:
        None while more bytes are needed. A call costs next to nothing until the header is whole.

    Raises:
        ParseError: this is no such header, it is malformed, longer than ``MAX_LINE`` or
            ``max_size`` bytes, or its checksum (CRC32C, section 2.2.3) is wrong. The protocol has
            no answer for any of these: the connection is to be closed.
    """
    start = start_of(data, MAX_LINE)
    if start.startswith(SIGNATURE):
        return _binary(data, max_size)
    if start.startswith(LINE):
        return _line(start)
    if SIGNATURE.startswith(start) or LINE.startswith(start):
        return None
    raise ParseError(f"no PROXY header: it begins with {shown(start)}")


def header_needs(data: bytes) -> int:
    """Return how many bytes a header has at least that begins so, and is not whole yet.

    Who receives no more than that takes no byte that is not the header's.
    """
    if data.startswith(SIGNATURE):
        return 16 if len(data) < 16 else 16 + int.from_bytes(data[14:16])
    if len(data) < 15:  # the shortest is "PROXY UNKNOWN" and a CRLF
        return 15
    if data.endswith(b"\r"):
        return len(data) + 1
    words = data.split(b" ")[1:]
    least = _LEAST.get(words[0].decode("latin-1"), ())[max(0, len(words) - 2) :]
    if least and len(words) > 1:  # this word may be whole, or is yet to begin
        least = ((-1 if words[-1] else least[0] - 1), *least[1:])
    return len(data) + sum(1 + size for size in least) + 2


def _line(start: bytes) -> ProxyHeader | None:
    """Read version 1: section 2.1."""
    line, crlf, _ = start.partition(b"\r\n")
    if found := _BARE.search(line + crlf):
        raise _bad(f"a CR or LF that is no line's end, at byte {found.start()}")
    if not crlf:
        if len(start) == MAX_LINE:
            raise _bad(f"no CRLF within {MAX_LINE} bytes")
        return None
    size = len(line) + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(1, "PROXY", "UNKNOWN", None, None, (), size)
    words = line.decode("latin-1").split(" ")
    if words[1] not in ("TCP4", "TCP6"):
        raise _bad(f"{shown(words[1].encode('latin-1'))} where TCP4, TCP6 or UNKNOWN is expected")
    if len(words) != 6:
        raise _bad(f"{len(words)} words with a space between, where 6 are expected")
    family: Family = "TCP4" if words[1] == "TCP4" else "TCP6"
    source, destination = (_address(family, word) for word in words[2:4])
    from_port, to_port = (_port(word) for word in words[4:])
    ends = ((source, from_port), (destination, to_port))
    return ProxyHeader(1, "PROXY", family, *ends, (), size)


def _address(family: Family, word: str) -> str:
    """Return the address as the kernel writes it."""
    try:
        if family == "TCP4":
            return address_text(ipaddress.IPv4Address(word).packed)
        if _IPV6.fullmatch(word):
            return address_text(ipaddress.IPv6Address(word).packed)
    except ValueError:
        pass
    raise _bad(f"{shown(word.encode('latin-1'))} is no address of {family}")


def _port(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65_535:
        raise _bad(f"{shown(word.encode('latin-1'))} is no port from 0 to 65535")
    return int(word)


def _binary(data: Buffer, most: int) -> ProxyHeader | None:
    """Read version 2: section 2.2."""
    head = start_of(data, 16)
    command = family = 0
    if len(head) > 12:
        version, command = divmod(head[12], 16)
        if version != 2 or command > 1:
            raise _bad(f"version {version} and command {command}, at byte 12")
    if len(head) > 13 and command:  # of LOCAL the family is ignored
        family = head[13]
        if family >> 4 > 3 or family & 15 > 2:
            raise _bad(f"family {family >> 4} and transport {family & 15}, at byte 13")
    if len(head) < 16:
        return None
    size = 16 + int.from_bytes(head[14:])
    if size > most:
        raise ParseError(f"too long: a PROXY header of {size} bytes, {most} may be")
    if len(data) < size:
        return None
    if not command:
        return ProxyHeader(2, "LOCAL", "UNKNOWN", None, None, (), size)
    header = start_of(data, size)
    fields = Fields(header, 16, size, "PROXY header", b"")
    name: Family
    ends: tuple[Endpoint, Endpoint]
    if family == 0x11:
        name, ends = "TCP4", _internet(fields, 4)
    elif family == 0x21:
        name, ends = "TCP6", _internet(fields, 16)
    elif family == 0x31:
        name, ends = "unix", (_path(fields, "source"), _path(fields, "destination"))
    else:
        return ProxyHeader(2, "PROXY", "UNKNOWN", None, None, (), size)
    return ProxyHeader(2, "PROXY", name, *ends, _tlvs(fields, header), size)


def _internet(fields: Fields, size: int) -> tuple[Endpoint, Endpoint]:
    source, destination = (fields.take(size, f"the {end} address") for end in _ENDS)
    from_port, to_port = (fields.number(2, f"the {end} port") for end in _ENDS)
    return (address_text(source), from_port), (address_text(destination), to_port)


def _path(fields: Fields, end: str) -> str:
    """Return the path in a sun_path, unix(7), as muxcore writes it."""
    path = fields.take(108, f"the {end} path")
    if path.startswith(b"\0") and (name := path[1:].rstrip(b"\0")):
        return "@" + os.fsdecode(name)
    return os.fsdecode(path.partition(b"\0")[0])


def _tlvs(fields: Fields, header: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the rest, and check the header against its checksum where that is there."""
    found = []
    checked = False
    while fields.at < fields.end:
        kind = fields.number(1, "a TLV's type")
        value = fields.vector(2, f"TLV {kind}")
        found.append((kind, value.left))
        if kind == SSL:
            proxy_ssl.read(Fields(header, value.at, value.end, "PROXY header", b""))
        if kind != CRC32C:
            continue
        if len(value.left) != 4 or checked:  # a second one would be paid for, and mean nothing
            raise value.wrong("a second checksum" if checked else "a checksum not of 4 bytes")
        checked = True
        summed = crc32c(header[: value.at] + bytes(4) + header[value.end :])
        if summed != int.from_bytes(value.left):
            raise value.wrong("the checksum (CRC32C) is not that of the header")
    return tuple(found)


def _bad(why: str) -> ParseError:
    return ParseError(f"malformed PROXY header: {why}")


def _table() -> tuple[int, ...]:
    """Return what each byte does to the remainder: the polynomial of RFC 9260, appendix A."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Return the checksum: RFC 9260, appendix A. A full header of 16 KiB takes a millisecond."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = _CRC[(rest ^ byte) & 0xFF] ^ rest >> 8
    return rest ^ 0xFFFFFFFF
