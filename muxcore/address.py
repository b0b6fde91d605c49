"""What an address may look like, and what it means.

A bare port is loopback; every interface must be written out. ``:5432`` is refused, because half of
the world reads it as loopback and the other half as every interface.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field, replace
from typing import Any

from muxcore.errors import AddressError

_UNIX_PATH_MAX = 107  # sun_path is 108 bytes with its final NUL: unix(7)
_PORT_MAX = 65_535
_MODE_MAX = 0o777  # what is above it means nothing for a socket
_FD_NAME = re.compile(r"[ -9;-~]{1,255}")  # FileDescriptorName= of systemd.socket(5)
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")  # RFC 1123, 2.1


@dataclass(frozen=True, slots=True)
class Address:
    """One TCP or unix address.

    Attributes:
        host: a name or an IP literal without brackets; "" for a unix address.
        port: 0 to 65,535; 0 asks the kernel for a free one.
        path: the path of a unix socket; "" for TCP. One without host, path and fd is that of a unix
            socket without a name.
        fd: for listening: the name of descriptors that a supervisor has passed, sd_listen_fds(3),
            or the number of an open one.
        mode: the permissions of the file that listening on ``path`` makes, such as 0o660: who may
            write to it may connect (unix(7)). None: what the umask leaves.
        owner: (uid, gid) whose that file becomes; None: the process's.

    Raises:
        AddressError: such a mode there cannot be.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    fd: str = ""
    mode: int | None = field(default=None, compare=False)
    owner: tuple[int, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.mode is not None:
            _check_mode(self.mode, self.path)

    def __str__(self) -> str:
        if self.fd:
            return f"fd:{self.fd}"
        if self.path:
            return f"unix:{self.path}"
        if not self.host:
            return "unix"
        return joined(self.host, self.port)


def joined(host: str, port: int) -> str:
    """Return an IP address and its port as a person writes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_file(where: Address) -> bool:
    """Return whether listening there makes a file."""
    return bool(where.path) and not where.path.startswith("@")


def with_rights(where: Address, mode: int | None, owner: tuple[int, int] | None) -> Address:
    """Return an address with the rights of the file that it makes, if it makes one."""
    return replace(where, mode=mode, owner=owner) if is_file(where) else where


def parse(text: str | int | Address, *, listen: bool = False) -> Address:
    """Read an address as a person writes it.

    Args:
        text: ``9000`` (loopback), ``"127.0.0.1:9000"``, ``"[::1]:9000"``, ``"localhost:9000"``,
            ``"0.0.0.0:9000"`` or ``"[::]:9000"`` (every interface), or ``"unix:/run/app.sock"``.
        listen: it is to be listened on, so it may be ``"fd:NAME"`` or ``"fd:3"``, too: what a
            supervisor has passed.

    Raises:
        AddressError: the text is none of these; the message shows the right spelling.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | Address):
        raise AddressError(
            f"an address is a port number or text such as '127.0.0.1:9000', not {text!r}"
        )
    parsed = text if isinstance(text, Address) else _parsed(str(text).strip())
    if parsed.fd and not listen:
        raise AddressError(
            f"address '{parsed}' is a socket that a supervisor has passed, which is listened on: "
            "it is nowhere to connect to; write for example '127.0.0.1:9000'"
        )
    return parsed


def mode_of(text: str) -> int:
    """Read the permissions of a unix socket as chmod(1) takes them: ``"0660"``, or ``"660"``.

    Raises:
        AddressError: they are none, or nobody could connect.
    """
    if not re.fullmatch(r"(0o)?[0-7]{3,4}", text):
        raise AddressError(f"must be three digits from 0 to 7 after a 0, as in 0660, not {text!r}")
    mode = int(text, 8)
    _check_mode(mode, "unix")
    return mode


@functools.lru_cache(1024)  # a relay connects to the same few addresses all the time
def _parsed(text: str) -> Address:
    if text.startswith("unix:"):
        return Address(path=_unix_path(text[5:]))
    if text.startswith("fd:"):
        return Address(fd=_fd_name(text[3:]))
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
    if address.fd:
        raise OSError(errno.EINVAL, f"{address} has no address before it is opened")
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


def _fd_name(name: str) -> str:
    if not _FD_NAME.fullmatch(name):
        raise AddressError(
            f"address 'fd:{name}' names no descriptors: write fd: and what FileDescriptorName= of "
            "the .socket unit says, or a number, as in fd:3"
        )
    return str(int(name)) if name.isdigit() else name


def _check_mode(mode: int, path: str) -> None:
    """Refuse the permissions of a unix socket that cannot be meant."""
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise AddressError(f"a mode is a number such as 0o660, not {mode!r}")
    if not path or path.startswith("@"):
        raise AddressError("a mode is a unix socket's file's: this address has none")
    if not 0 <= mode <= _MODE_MAX:
        meant = f"; did you mean 0o{mode}?" if re.fullmatch("[0-7]{3}", str(mode)) else ""
        raise AddressError(f"mode {mode:#o} is not from 0 to 0o777{meant}")
    if not mode & 0o222:
        raise AddressError(
            f"mode {mode:#o} lets nobody write, so nobody could connect (unix(7)): 0o600 lets the "
            "owner, 0o660 the group, 0o666 everybody"
        )


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
