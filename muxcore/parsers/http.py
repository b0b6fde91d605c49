"""The head of an HTTP/1 request: RFC 9112, sections 2 to 5.

It is for those who choose by it and let the bytes go on: whatever two readers could take in two
ways is refused, since the upstream may be the other reader. How the body ends is not looked at.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from muxcore.errors import ParseError
from muxcore.parsers.reading import Buffer, address_text, shown, start_of

# Bytes of a head, its last empty line included: what h11 and Node.js take too.
MAX_HEAD = 16_384
MAX_HEADERS = 100  # what Apache takes (LimitRequestFields); a browser sends about 20

_MAX_METHOD = 32  # bytes; of those that are registered the longest has 17
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # RFC 9110, section 5.6.2
_BEGINNING = re.compile(rb"\Z|" + _TOKEN + rb"{1,%d}(?: |\Z)" % _MAX_METHOD)
_REQUEST = re.compile(rb"(" + _TOKEN + rb"{1,%d}) ([\x21-\x7e]+) HTTP/(1\.[0-9])" % _MAX_METHOD)
_OTHER_VERSION = re.compile(rb"[\x21-\x7e]+ [\x21-\x7e]+ HTTP/(?!1)[0-9]\.[0-9]")
_NAME = re.compile(_TOKEN + rb"+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
# A host and a port, RFC 3986, section 3.2. Of a host's name less is taken than there: a comma may
# be where somebody joined two headers, and a letter written as %61 is another spelling of a name.
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{0,5}))?")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # HTTP/2: RFC 9113, section 3.4

_BAD = (400, "Bad Request")
_TOO_LARGE = (431, "Request Header Fields Too Large")
_VERSION = (505, "HTTP Version Not Supported")


@dataclass(frozen=True, slots=True)
class HttpHead:
    """A request without its body.

    Attributes:
        method: as sent; methods are case-sensitive.
        target: as sent: ``/path?query``, ``http://host/path``, ``host:port`` for CONNECT, ``*``.
        version: "1.1" or "1.0"; any 1.x is read as 1.1.
        headers: (name, value) in the order they came, repeated ones too. Names are in lower case;
            values without the whitespace around them, each byte the character of its number.
        host: the host that is asked for, RFC 9112, section 3.3: of the target if it names one, else
            of the Host header. In lower case, an IPv6 address without brackets; None if the client
            names none, as HTTP/1.0 may.
        port: the port beside it; None if there is none.
        size: bytes of the head; the body begins there.
    """

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    host: str | None
    port: int | None
    size: int


def http_head(data: Buffer) -> HttpHead | None:
    """Read the head of an HTTP/1.x request.

    Refused are: bare CR and LF, folded headers, whitespace before a colon, control characters,
    bytes above 0x7E in the request line, a target in none of the four forms, several Host headers,
    HTTP/1.1 without one, and one that differs from the host of an absolute target. One empty line
    before the request is skipped, as RFC 9112, section 2.2, asks for; ``size`` counts it.

    Args:
        data: all bytes that have come so far; what follows the head is not looked at.

    Returns:
        None while more bytes are needed. A call costs a search for the head's end, ten microseconds
        in 16 KiB, and as soon as it is there one look at each line.

    Raises:
        ParseError: this is not HTTP/1 (the first bytes tell; HTTP/2 has a text of its own), it is
            malformed, has more than ``MAX_HEAD`` bytes or ``MAX_HEADERS`` headers. The error's
            ``answer`` is a response (400, 431, 505); who does not speak HTTP/1 gets none.
    """
    start = start_of(data, MAX_HEAD)
    begin = 2 if start.startswith(b"\r\n") else 0
    if start.startswith(PREFACE[:16]):
        raise ParseError("HTTP/2: it begins with the preface of RFC 9113, section 3.4")
    if start != b"\r" and not _BEGINNING.match(start, begin):
        raise ParseError(f"not HTTP: it begins with {shown(start)}")
    end = start.find(b"\r\n\r\n", begin)
    if end < 0:
        _check_lines(start, begin)
        if len(start) == MAX_HEAD:
            raise _refused(f"no end within {MAX_HEAD} bytes", _TOO_LARGE)
        return None
    first, *lines = start[begin:end].split(b"\r\n")
    if len(lines) > MAX_HEADERS:
        raise _refused(f"{len(lines)} headers, {MAX_HEADERS} may be", _TOO_LARGE)
    method, target, version = _request(first)
    at = begin + len(first) + 2
    headers = []
    for line in lines:
        headers.append(_header(line, at))
        at += len(line) + 2
    host, port = _host(method, target, version, headers)
    return HttpHead(method, target, version, tuple(headers), host, port, end + 4)


def _check_lines(start: bytes, begin: int) -> None:
    """Refuse what can be refused without a look at each line: this is done again and again."""
    crs = start.count(b"\r", begin, -1 if start.endswith(b"\r") else None)
    lfs = start.count(b"\n", begin)
    if crs != lfs or lfs != start.count(b"\r\n", begin):
        raise _refused("a CR or LF that is no line's end")
    if lfs > MAX_HEADERS + 1:
        raise _refused(f"more than {MAX_HEADERS} headers", _TOO_LARGE)


def _request(line: bytes) -> tuple[str, str, str]:
    """Read the request line: RFC 9112, section 3."""
    if found := _REQUEST.fullmatch(line):
        method, target, version = (part.decode() for part in found.groups())
        return method, target, version
    if _OTHER_VERSION.fullmatch(line):
        raise _refused(f"the version {shown(line[-8:])}, where HTTP/1.x is expected", _VERSION)
    raise _refused(f"{shown(line)} is no request line")


def _header(line: bytes, at: int) -> tuple[str, str]:
    """Read a field line: RFC 9112, section 5."""
    if line.startswith((b" ", b"\t")):
        raise _refused(f"a folded header, at byte {at}")
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise _refused(f"{shown(line)} is no header, at byte {at}")
    if not _VALUE.fullmatch(value):
        raise _refused(f"a control character in the header {shown(name)}, at byte {at}")
    return name.decode().lower(), value.strip(b" \t").decode("latin-1")


def _host(
    method: str, target: str, version: str, headers: list[tuple[str, str]]
) -> tuple[str | None, int | None]:
    """Return the host that is asked for, and its port: RFC 9112, sections 3.2 and 3.3."""
    named = [value for name, value in headers if name == "host"]
    if len(named) > 1:
        raise _refused(f"{len(named)} Host headers")
    if not named and version != "1.0":
        raise _refused(f"HTTP/{version} without a Host header")
    asked = _authority(named[0], "Host header") if named and named[0] else (None, None)
    if method == "CONNECT":  # its Host header may come without the port, or be that of a proxy
        host, port = _authority(target, "target of CONNECT")
        if port is None:
            raise _refused(f"the target {shown(target.encode())} of CONNECT has no port")
        return host, port
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return asked
    if not (absolute := _ABSOLUTE.match(target)):
        raise _refused(f"the target {shown(target.encode())} is in no form that there is")
    meant = _authority(absolute[1], "target")
    if named and asked != meant:  # the same, section 3.2 demands; the upstream may go by the other
        raise _refused("the Host header is not that of the target")
    return meant


def _authority(text: str, where: str) -> tuple[str, int | None]:
    """Read a host and a port."""
    found = _AUTHORITY.fullmatch(text)
    if not found or int(found[3] or 0) > 65_535:
        raise _refused(f"{shown(text.encode('latin-1'))} in the {where} is no host and port")
    port = int(found[3]) if found[3] else None
    if not found[1]:
        return found[2].lower(), port
    try:
        return address_text(ipaddress.IPv6Address(found[1]).packed), port
    except ValueError:
        raise _refused(f"{shown(text.encode())} in the {where} is no IPv6 address") from None


def _refused(why: str, status: tuple[int, str] = _BAD) -> ParseError:
    answer = "HTTP/1.1 {} {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".format(*status)
    return ParseError(f"malformed HTTP request: {why}", answer.encode())
