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


def open_listeners(
    where: str | int | Address | socket.socket, limits: Limits, *, reuse_port: bool = False
) -> list[socket.socket]:
    """Open a non-blocking listener for each address that ``where`` resolves to.

    Args:
        where: an address, or a socket that is bound (and listening, if it wishes) already.
        limits: the backlog is taken from it.
        reuse_port: set SO_REUSEPORT, so that several processes can share one port.

    Raises:
        AddressError: the address is malformed.
        BindError: it is taken, forbidden, or not this machine's.
    """
    backlog = limits.backlog or socket.SOMAXCONN
    if isinstance(where, socket.socket):
        return [_listening(where, backlog)]
    parsed = addresses.parse(where)
    opened: list[socket.socket] = []
    try:
        for family, sockaddr in addresses.resolve(parsed, passive=True):
            if opened and parsed.port == 0:
                # one free port for every address of the name, as a client of the name expects
                sockaddr = (sockaddr[0], opened[0].getsockname()[1], *sockaddr[2:])
            opened.append(_bound(family, sockaddr, backlog, reuse_port))
    except OSError as exc:
        for sock in opened:
            sock.close()
        raise BindError(exc.errno, f"cannot listen on {parsed}: {_why(exc, parsed)}") from exc
    return opened


def close_listener(sock: socket.socket) -> None:
    """Close a listener; a unix socket's path goes with it."""
    if sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        path = sock.getsockname()
        if path and not os.fsencode(path).startswith(b"\0"):
            with contextlib.suppress(OSError):
                os.unlink(path)
    sock.close()


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


def _listening(sock: socket.socket, backlog: int) -> socket.socket:
    """Take over a socket that the caller bound; listen(2) again only sets its backlog."""
    try:
        sock.listen(backlog)
    except OSError as exc:
        raise BindError(
            exc.errno, f"cannot listen on the socket {sock!r}: {exc.strerror}; bind it first"
        ) from exc
    sock.setblocking(False)
    return sock


def _bound(
    family: socket.AddressFamily, sockaddr: Any, backlog: int, reuse_port: bool
) -> socket.socket:
    if family == socket.AF_UNIX:
        _remove_stale(sockaddr)
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
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens on any more, left by a process that was killed."""
    try:
        if path.startswith("\0") or not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
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
    advice = {
        errno.EADDRINUSE: "another socket listens there; end it, or take port 0 for a free port",
        errno.EACCES: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this is no address of this machine",
        errno.EAFNOSUPPORT: "this system has no such address family (IPv6 may be off)",
        errno.ENOENT: f"there is no folder for {address.path}",
        errno.EMFILE: "this process is out of descriptors (`ulimit -n`)",
    }
    return advice.get(exc.errno or 0, exc.strerror or str(exc))
