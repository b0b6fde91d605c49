"""What an address may look like, and what it means.

A bare port is loopback; every interface must be written out. ``:5432`` is refused, because half of
the world reads it as loopback and the other half as every interface.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from muxcore.errors import AddressError

_UNIX_PATH_MAX = 107  # sun_path is 108 bytes with its final NUL: unix(7)
_PORT_MAX = 65_535
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")  # RFC 1123, 2.1


@dataclass(frozen=True, slots=True)
class Address:
    """One TCP or unix address.

    Attributes:
        host: a name or an IP literal without brackets; "" for a unix address.
        port: 0 to 65,535; 0 asks the kernel for a free one.
        path: the path of a unix socket; "" for TCP. One without host and path is that of a unix
            socket without a name.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        if not self.host:
            return "unix"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str | int | Address) -> Address:
    """Read an address as a person writes it.

    Args:
        text: ``9000`` (loopback), ``"127.0.0.1:9000"``, ``"[::1]:9000"``, ``"localhost:9000"``,
            ``"0.0.0.0:9000"`` or ``"[::]:9000"`` (every interface), or ``"unix:/run/app.sock"``.

    Raises:
        AddressError: the text is none of these; the message shows the right spelling.
    """
    if isinstance(text, Address):
        return text
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise AddressError(
            f"an address is a port number or text such as '127.0.0.1:9000', not {text!r}"
        )
    return _parsed(str(text).strip())


@functools.lru_cache(1024)  # a relay connects to the same few addresses all the time
def _parsed(text: str) -> Address:
    if text.startswith("unix:"):
        return Address(path=_unix_path(text[5:]))
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return Address("127.0.0.1", _port(text, "127.0.0.1", text))
    if text.startswith("["):
        return _bracketed(text)
    if "://" in text:
        raise AddressError(
            f"address {text!r} is a URL: leave out the scheme and the path, as in 'localhost:9000'"
        )
    if text.startswith(("/", "./", "../", "@")):
        raise AddressError(f"address {text!r} is a unix socket's: write 'unix:{text}'")
    if text.count(":") > 1:
        shown = _right(f"[{text.rpartition(':')[0]}]:{text.rpartition(':')[2]}", f"[{text}]:9000")
        raise AddressError(
            f"address {text!r}: an IPv6 address is written in brackets, as in '{shown}'"
        )
    host, colon, port = text.rpartition(":")
    if not colon:
        what = "has no port" if text else "is empty"
        raise AddressError(f"address {text!r} {what}: write '{_right(f'{text}:9000')}'")
    number = _port(port, host, text)
    if not host:
        raise AddressError(
            f"address {text!r} does not say where to listen: write '127.0.0.1:{port}' for this "
            f"machine only, or '0.0.0.0:{port}' (IPv6: '[::]:{port}') for every interface"
        )
    if host == "*":
        raise AddressError(
            f"address {text!r}: write '0.0.0.0:{port}' or '[::]:{port}' for every interface"
        )
    if re.fullmatch(r"[0-9.]+", host):
        _literal(host, ipaddress.IPv4Address, text)
    elif len(host) > 253 or not _NAME.fullmatch(host):
        raise AddressError(
            f"address {text!r}: {host!r} is not a host name; write for example 'localhost:{port}'"
        )
    return Address(host, number)


def resolve(address: Address, *, passive: bool = False) -> list[tuple[socket.AddressFamily, Any]]:
    """Return (family, sockaddr) for each address of the name; blocks while the name is looked up.

    Args:
        address: what :func:`parse` returned.
        passive: for listening; see AI_PASSIVE in getaddrinfo(3).

    Raises:
        OSError: the name has no address, or is none; ``socket.gaierror`` says why.
    """
    if address.path:
        return [(socket.AF_UNIX, _sun_path(address.path))]
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=flags,
        )
    except (ValueError, OverflowError) as exc:  # a label that IDNA cannot encode, a NUL, a port
        raise socket.gaierror(socket.EAI_NONAME, f"it is no name and port ({exc})") from exc
    unique = {(family, sockaddr): None for family, _, _, _, sockaddr in found}
    return list(unique)


@functools.lru_cache(1024)  # who relays connects to the same few again and again
def literal(address: Address) -> tuple[tuple[socket.AddressFamily, Any], ...]:
    """Return what :func:`resolve` does for an address that names a socket by itself.

    Returns:
        () for what has to be looked up: a name, or an IPv6 zone (interfaces come and go).
    """
    try:
        if not address.path and getattr(ipaddress.ip_address(address.host), "scope_id", None):
            return ()
        return tuple(resolve(address))
    except (ValueError, OSError):  # a name; or a family that this system does not know
        return ()


def of_socket(sock: socket.socket) -> str:
    """Return the address a socket is bound to, as :func:`parse` reads it."""
    return from_sockaddr(sock.family, sock.getsockname())


def from_sockaddr(family: int, sockaddr: Any) -> str:
    """Return a kernel's socket address as :func:`parse` reads it."""
    if family == socket.AF_UNIX:
        path = os.fsdecode(sockaddr or b"")
        return f"unix:{path.replace(chr(0), '@', 1)}"
    return str(Address(sockaddr[0], sockaddr[1]))


def _sun_path(path: str) -> str:
    """Return the path as the kernel takes it: a leading ``@`` names the abstract space, unix(7)."""
    return "\0" + path[1:] if path.startswith("@") else path


def _unix_path(path: str) -> str:
    if not path:
        raise AddressError("address 'unix:' has no path: write 'unix:/run/app.sock'")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as exc:
        raise AddressError(f"unix path {path!r} cannot name a file: {exc}") from None
    if size > _UNIX_PATH_MAX:
        raise AddressError(
            f"unix path of {size} bytes is over the kernel's {_UNIX_PATH_MAX}: use a shorter one"
        )
    if "\0" in path:
        raise AddressError("a unix path cannot hold a NUL byte; '@name' is the abstract space")
    return path


def _bracketed(text: str) -> Address:
    host, bracket, rest = text[1:].partition("]")
    if not bracket or not rest.startswith(":"):
        shown = _right(f"[{host}]:9000")
        raise AddressError(f"address {text!r}: write an IPv6 address as '{shown}'")
    _literal(host, ipaddress.IPv6Address, text)
    return Address(host, _port(rest[1:], f"[{host}]", text))


def _right(*spellings: str) -> str:
    """Return the first that is right: an error must not show one that is refused as well."""
    for spelling in spellings:
        try:
            return str(parse(spelling))
        except AddressError:
            continue
    return "[::1]:9000" if spellings[0].startswith("[") else "127.0.0.1:9000"


def _literal(
    host: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], text: str
) -> None:
    try:
        kind(host)
    except ValueError as exc:
        example = "[::1]:9000" if kind is ipaddress.IPv6Address else "127.0.0.1:9000"
        raise AddressError(f"address {text!r}: {exc}; write for example '{example}'") from None


def _port(port: str, host: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _PORT_MAX:
        raise AddressError(
            f"address {text!r}: port {port!r} is not a number from 0 to {_PORT_MAX} "
            f"(0: any free port); write for example '{_right(f'{host}:9000')}'"
        )
    return int(port)
