"""PROXY headers to send: the other half of ``proxy``, whose sections are named here, too."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from muxcore.parsers.proxy import CRC32C, SIGNATURE, crc32c
from muxcore.parsers.reading import address_text

_MOST = 65_535  # bytes behind the first 16: their length is a number of two
_PATH = 108  # bytes of a sun_path, unix(7)
_MAPPED = bytes(10) + b"\xff\xff"  # how IPv4's addresses begin in IPv6's form: RFC 4291, 2.5.5.2

Ends: TypeAlias = "tuple[tuple[bytes, int | None], tuple[bytes, int | None]]"


def build_proxy_header(
    source: Any,
    destination: Any,
    *,
    version: Literal[1, 2] = 2,
    local: bool = False,
    tlvs: Iterable[tuple[int, bytes]] = (),
    checksum: bool = False,
) -> bytes:
    """Return the header that tells whom a connection is for.

    Args:
        source: whence the client came: a socket address as ``peername`` is one, so a tuple of host
            and port, a unix socket's path, or None where it is not known.
        destination: where it went, likewise. Of two that are not alike neither is told.
        version: 1, or 2.
        local: the connection is the sender's own, such as a health check; no address is told then.
        tlvs: (type, value) pairs behind the addresses, section 2.2; they need addresses, too.
        checksum: a CRC32C of the header comes behind them.

    Raises:
        ValueError: an address is none; version 1 is to carry TLVs or a checksum; or it is too long.
    """
    ends = None if local else _ends(source, destination)
    if version == 1:
        if checksum or any(True for _ in tlvs):
            raise ValueError("a PROXY header of version 1 has no place for TLVs or a checksum")
        return _line(ends)
    body, family = b"", 0x00
    if ends is not None:
        family, body = _binary(ends)
        body += b"".join(map(_tlv, tlvs))
    if checksum:
        body += _tlv((CRC32C, bytes(4)))
    if len(body) > _MOST:
        raise ValueError(f"a PROXY header of {16 + len(body)} bytes is too long: {_MOST} are left")
    command = 0x20 if local else 0x21
    header = SIGNATURE + bytes((command, family)) + len(body).to_bytes(2) + body
    return header[:-4] + crc32c(header).to_bytes(4) if checksum else header


def _ends(source: Any, destination: Any) -> Ends | None:
    """Return both ends, packed and of one family, with their ports or without; or None."""
    if isinstance(source, tuple) and isinstance(destination, tuple):
        one, other = _host(source[0]), _host(destination[0])
        if len(one) != len(other):
            one, other = (host if len(host) == 16 else _MAPPED + host for host in (one, other))
        return (one, _port(source[1])), (other, _port(destination[1]))
    if isinstance(source, str | bytes) and isinstance(destination, str | bytes):
        return (_path(source), None), (_path(destination), None)
    return None


def _host(text: str) -> bytes:
    """Return an address, packed: without a zone, and as IPv4's where it is one in IPv6's form."""
    host = text.partition("%")[0]
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        raise ValueError(f"{text!r} is no IP address") from None
    return packed.removeprefix(_MAPPED)


def _port(port: int) -> int:
    if not 0 <= port <= 65_535:
        raise ValueError(f"{port!r} is no port from 0 to 65535")
    return port


def _path(path: str | bytes) -> bytes:
    """Return a sun_path; an abstract name begins with a zero byte, as ``@`` says in muxcore."""
    raw = os.fsencode(path)
    raw = b"\0" + raw[1:] if raw.startswith(b"@") else raw
    if len(raw) > _PATH:
        raise ValueError(f"the path {path!r} is longer than {_PATH} bytes")
    return raw.ljust(_PATH, b"\0")


def _line(ends: Ends | None) -> bytes:
    """Return version 1: section 2.1."""
    if ends is None or ends[0][1] is None:
        return b"PROXY UNKNOWN\r\n"
    (host, port), (to, to_port) = ends
    family = "TCP4" if len(host) == 4 else "TCP6"
    line = f"PROXY {family} {address_text(host)} {address_text(to)} {port} {to_port}\r\n"
    return line.encode()


def _binary(ends: Ends) -> tuple[int, bytes]:
    """Return the family and the addresses of version 2: section 2.2."""
    (host, port), (to, to_port) = ends
    if port is None or to_port is None:
        return 0x31, host + to
    return 0x11 if len(host) == 4 else 0x21, host + to + port.to_bytes(2) + to_port.to_bytes(2)


def _tlv(tlv: tuple[int, bytes]) -> bytes:
    kind, value = tlv
    if len(value) > _MOST:
        raise ValueError(f"TLV {kind} of {len(value)} bytes is too long: {_MOST} may be")
    return bytes((kind,)) + len(value).to_bytes(2) + value
