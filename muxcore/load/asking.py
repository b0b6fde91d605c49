"""What a server that does not echo is asked: as it is written, as HTTP, and what it answers."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.load.config import SCRIPT_MAX
from muxcore.load.generator import LoadError

FIRST = 2.0  # seconds the reply may take to begin
_SILENCE = 0.2  # seconds without a byte, after which it has ended
_SHOWN = 60  # bytes of a reply in an error

_HTTP = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_PATH = re.compile(r"/[\x21-\x7e]*")


def bytes_of(text: str, most: int = SCRIPT_MAX) -> bytes:
    """Return the bytes that an argument names.

    Args:
        text: in UTF-8, with Python's escapes for bytes; or ``@FILE``, whose bytes are taken as they
            are.
        most: how many there may be.

    Raises:
        ValueError: an escape that is none, or that is no byte; no such file; nothing; or too much.
            A name can stand before the message.
    """
    if text.startswith("@"):
        try:
            found = Path(text[1:]).read_bytes()
        except OSError as exc:
            raise ValueError(
                f"{text!r}: {exc.strerror}; @ names a file, write \\x40 for the character"
            ) from None
    else:
        try:
            found = text.encode().decode("unicode_escape").encode("latin-1")
        except (UnicodeDecodeError, UnicodeEncodeError) as exc:
            raise ValueError(
                f"{text!r}: {exc.reason}; write a byte as \\r, \\n or \\x00, a backslash as \\\\, "
                "and other characters as they are"
            ) from None
    if not 0 < len(found) <= most:
        raise ValueError(f"has {len(found)} bytes: 1 to {most:,} can be taken")
    return found


def http_get(path: str, target: Address) -> bytes:
    """Return an HTTP/1.1 request for a path.

    Raises:
        ValueError: it is no path. A name can stand before the message.
    """
    if not _PATH.fullmatch(path):
        raise ValueError(f"must be a path such as /index.html, not {path!r}")
    host = target.host or "localhost"  # of a unix socket
    host = f"[{host}]" if ":" in host else host
    host += f":{target.port}" if target.port not in (0, 80) else ""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: muxcore\r\n\r\n".encode()


def is_http(request: bytes) -> bool:
    """Whether a request is one of HTTP/1, whose replies end where HTTP says."""
    return bool(_HTTP.match(request))


def learn(target: Address, request: bytes, greeting: bytes = b"") -> bytes:
    """Return what a server answers a request, if it is the same each time.

    It is asked once, and twice on another connection: replies that differ cannot be demanded.

    Raises:
        LoadError: there is no reply, or there are several.
        OSError: it cannot be connected to.
    """
    one, two = (ask(target, request, times, greeting) for times in (1, 2))
    if not one:
        raise LoadError(
            f"no reply to {request[:_SHOWN]!r} within {FIRST:g} s: does it end as the server "
            "expects, with \\r\\n for instance?"
        )
    if two != one * 2:
        raise LoadError(
            f"the replies to {request[:_SHOWN]!r} differ ({one[:_SHOWN]!r}, then "
            f"{two[: 2 * _SHOWN]!r}): say with --until what each of them ends with"
        )
    if len(one) > SCRIPT_MAX:
        raise LoadError(
            f"the reply to {request[:_SHOWN]!r} has {len(one):,} bytes, and {SCRIPT_MAX:,} can be "
            "compared: say with --until what it ends with"
        )
    return one


def ask(target: Address, request: bytes, times: int, greeting: bytes = b"") -> bytes:
    """Return what comes back until the server is silent, or ends the connection.

    Args:
        target: where it is, in numbers.
        request: what it is sent.
        times: how often, each after the last reply.
        greeting: what it says first ends with this, and is left out.

    Raises:
        OSError: it cannot be connected to.
        LoadError: it does not greet so.
    """
    family, sockaddr = addresses.resolve(target)[0]
    back = b""
    with socket.socket(family) as sock:
        sock.settimeout(FIRST)
        sock.connect(sockaddr)
        _be_greeted(sock, greeting)
        try:
            for _ in range(times):
                sock.settimeout(FIRST)
                sock.sendall(request)
                try:
                    while True:
                        back += _some(sock)
                        sock.settimeout(_SILENCE)
                except TimeoutError:
                    continue
        except (EOFError, ConnectionError):
            pass  # what came until then is what it says
    return back


def _be_greeted(sock: socket.socket, greeting: bytes) -> None:
    said = b""
    try:
        while greeting not in said:
            said += _some(sock)
    except (EOFError, ConnectionError, TimeoutError):
        raise LoadError(
            f"the server did not greet with {greeting!r} within {FIRST:g} s; it said "
            f"{said[:_SHOWN]!r}"
        ) from None


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65_536)
    if not data:
        raise EOFError
    return data
