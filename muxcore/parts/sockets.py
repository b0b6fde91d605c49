"""Listeners: opening them, accepting from them, and what to do when accept(2) fails.

accept(2) names three kinds of failure, and they want different answers:

- the queue is empty (EAGAIN): done for now;
- the connection is gone or refused by the network (ECONNABORTED, EPROTO, EPERM, …): take the next;
- this process or system is out of something (EMFILE, ENFILE, ENOBUFS, ENOMEM): the connection stays
  in the queue and the listener stays readable, so a loop that just went on would spin at full
  speed. The listener rests for ``Limits.accept_pause`` and tries again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from typing import Any

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import BindError
from muxcore.limits import Limits

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})
# accept(2): "treat them like EAGAIN by retrying"; EPERM is a firewall's refusal
_TAKE_THE_NEXT = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED EPROTO ENOPROTOOPT EOPNOTSUPP EPERM EHOSTDOWN EHOSTUNREACH ENONET "
        "ENETDOWN ENETUNREACH EINTR ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
)


class OutOfResources(Exception):
    """accept(2) failed for want of descriptors or memory; the listener must rest."""


class UnixListener(socket.socket):
    """A listener at a path that we bound: ours to remove, as long as it is the same file.

    Attributes:
        path: absolute, so that a chdir(2) does not change what is meant.
        file: (st_dev, st_ino) at bind(2): what somebody else binds there later is another file.
        owner: pid of the process that removes the path; a forked child only has a copy.
    """

    __slots__ = ("file", "owner", "path")

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.path = ""
        self.file: tuple[int, int] | None = None
        self.owner = 0

    def remember(self, path: str) -> None:
        """Note what was bound just now."""
        self.path = os.path.abspath(path)
        self.file = _file_at(self.path)
        self.owner = os.getpid()

    def remove(self) -> None:
        """Remove the path, if it is ours still."""
        if os.getpid() == self.owner and self.file and _file_at(self.path) == self.file:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def open_all(
    wheres: Sequence[Address | socket.socket], limits: Limits, *, reuse_port: bool = False
) -> list[socket.socket]:
    """Open listeners for several addresses, or none.

    Bound sockets among them become ours once all is open; if something cannot be opened, they stay
    the caller's, though they may be listening by then.

    Raises:
        BindError: see :func:`open_listeners` and :func:`listen_on`.
    """
    opened: list[socket.socket] = []
    try:
        for where in wheres:
            if isinstance(where, socket.socket):
                listen_on(where, limits)
                opened.append(where)
            else:
                opened += open_listeners(where, limits, reuse_port=reuse_port)
    except BaseException:
        for sock in opened:
            if sock not in wheres:
                close_listener(sock)
        raise
    return [taken_over(sock) if sock in wheres else sock for sock in opened]


def open_listeners(
    where: str | int | Address, limits: Limits, *, reuse_port: bool = False
) -> list[socket.socket]:
    """Open a non-blocking listener for each address that ``where`` resolves to.

    A unix socket is bound with the permissions that the umask leaves (umask(2)): who may write to
    it may connect (unix(7)).

    Args:
        where: an address.
        limits: the backlog is taken from it.
        reuse_port: set SO_REUSEPORT, so that several processes can share one port.

    Raises:
        AddressError: the address is malformed.
        BindError: it is taken, forbidden, or not this machine's.
    """
    parsed = addresses.parse(where)
    opened: list[socket.socket] = []
    try:
        for family, sockaddr in addresses.resolve(parsed, passive=True):
            if opened and parsed.port == 0:
                # one free port for every address of the name, as a client of the name expects
                sockaddr = (sockaddr[0], opened[0].getsockname()[1], *sockaddr[2:])
            opened.append(_bound(family, sockaddr, _backlog(limits), reuse_port))
    except OSError as exc:
        for sock in opened:
            close_listener(sock)
        raise BindError(exc.errno, f"cannot listen on {parsed}: {_why(exc, parsed)}") from exc
    return opened


def listen_on(sock: socket.socket, limits: Limits) -> None:
    """Let a socket listen that the caller has bound; listen(2) again only sets its backlog.

    Raises:
        BindError: it is closed, not bound, or no stream socket.
    """
    try:
        sock.listen(_backlog(limits))
    except OSError as exc:
        raise BindError(
            exc.errno, f"cannot listen on the socket {sock!r}: {exc.strerror}; bind it first"
        ) from exc


def check_adopted(sock: Any) -> None:
    """Refuse what ``adopt()`` cannot serve.

    Raises:
        TypeError, ValueError: this is no open stream socket, or one with TLS.
    """
    if not isinstance(sock, socket.socket):
        raise TypeError(f"adopt() needs a socket.socket, not {sock!r}")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("adopt() takes a plain socket: TLS would stay in this object, and be lost")
    if sock.fileno() < 0 or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"adopt() needs an open stream socket, not {sock!r}")


def taken_over(sock: socket.socket) -> socket.socket:
    """Return a socket object of our own for the caller's socket, whose object is closed by it.

    The caller may close his, or let it be collected: no descriptor of ours goes with it, and none
    that somebody else has got meanwhile.
    """
    ours = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
    ours.setblocking(False)
    return ours


def close_listener(sock: socket.socket) -> None:
    """Close a listener; a path that we bound goes with it, and nobody else's does."""
    if isinstance(sock, UnixListener) and sock.fileno() >= 0:
        sock.remove()
    sock.close()


def inherit(sock: socket.socket) -> None:
    """Make a forked child's copy of a listener the one whose end removes the path."""
    if isinstance(sock, UnixListener):
        sock.owner = os.getpid()


def accept(listener: socket.socket) -> tuple[socket.socket, Any] | None:
    """Accept one connection, non-blocking and with TCP_NODELAY; None when none waits.

    Raises:
        OutOfResources: see the module's text.
        OSError: the listener itself is broken.
    """
    while True:
        try:
            sock, peername = listener.accept()
        except OSError as exc:
            if exc.errno in _WOULD_BLOCK:
                return None
            if exc.errno in OUT_OF_RESOURCES:
                raise OutOfResources(os.strerror(exc.errno or 0)) from exc
            if exc.errno in _TAKE_THE_NEXT:
                continue
            raise
        prepare(sock)
        return sock, peername


def prepare(sock: socket.socket) -> None:
    """Make a connection non-blocking, and small messages leave at once (TCP_NODELAY)."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # a connection that was reset already says EINVAL
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _backlog(limits: Limits) -> int:
    return limits.backlog or socket.SOMAXCONN


def _file_at(path: str) -> tuple[int, int] | None:
    """Return which file a path names."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound(
    family: socket.AddressFamily, sockaddr: Any, backlog: int, reuse_port: bool
) -> socket.socket:
    sock: socket.socket
    if family == socket.AF_UNIX and not sockaddr.startswith("\0"):
        _remove_stale(sockaddr)
        sock = UnixListener(family, socket.SOCK_STREAM)
    else:
        sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # else a restart within a minute meets the last one's TIME_WAIT: socket(7)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "[::]" is IPv6 alone: "0.0.0.0" is written out beside it where both are meant
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        if isinstance(sock, UnixListener):
            sock.remember(sockaddr)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        close_listener(sock)
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens on any more, left by a process that was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is EAGAIN: somebody listens, and may be stuck
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass  # bind will say what is wrong


def _why(exc: OSError, address: Address) -> str:
    """Say what to do about a failed bind(2)."""
    if isinstance(exc, socket.gaierror):
        return f"the name has no address ({exc.strerror})"
    if address.path and exc.errno == errno.EADDRINUSE and _is_no_socket(address.path):
        return "there is a file or folder of that name; remove it, or take another path"
    advice = {
        errno.EADDRINUSE: "another socket listens there; end it, or take port 0 for a free port",
        errno.EACCES: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this is no address of this machine",
        errno.EAFNOSUPPORT: "this system has no such address family (IPv6 may be off)",
        errno.ENOENT: f"there is no folder for {address.path}",
        errno.EMFILE: "this process is out of descriptors (`ulimit -n`)",
    }
    return advice.get(exc.errno or 0, exc.strerror or str(exc))


def _is_no_socket(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
