"""Connected sockets: accepted, taken over, prepared; and what to do when accept(2) fails.

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
import sys
from typing import Any

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

_QUESTIONS = 3  # to a peer that is silent: fewer, and one packet that is lost ends it
_LONGEST_KEEP = 32_767  # s, MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of Linux
_KEEPIDLE: int = getattr(socket, "TCP_KEEPIDLE", 0) or getattr(socket, "TCP_KEEPALIVE", 0)  # macOS


class OutOfResources(Exception):
    """accept(2) failed for want of descriptors or memory; the listener must rest."""


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

    The caller may close that one, or let it be collected: no descriptor of ours goes with it, and
    none that somebody else has got meanwhile.
    """
    ours = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
    ours.setblocking(False)
    return ours


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


def watch_peers(sock: socket.socket, limits: Limits) -> None:
    """Have the kernel find peers that are gone: of a connection, or of all that a listener accepts.

    (What a listener has set, its connections inherit: tcp(7) has it of TCP_NODELAY, and Linux'
    inet_csk_clone_lock() copies the whole socket.)
    """
    if sock.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError):  # a connection that was reset already says EINVAL
        if limits.keepalive is not None:
            between = min(_LONGEST_KEEP, max(1, round(limits.keepalive / _QUESTIONS)))
            silent = min(_LONGEST_KEEP, max(1, round(limits.keepalive)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, _KEEPIDLE, silent)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _QUESTIONS)
        if limits.user_timeout is not None:
            milliseconds = max(1, min(2**31 - 1, round(1000 * limits.user_timeout)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def prepare(sock: socket.socket) -> None:
    """Make a connection non-blocking, and small messages leave at once (TCP_NODELAY)."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # a connection that was reset already says EINVAL
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
