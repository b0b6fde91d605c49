"""Listeners: they are opened, or it is said why not, and closed with what is theirs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from typing import Any, Protocol

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.parts import passed, sockets


class Left(Protocol):
    """Listening sockets that another process has left to this one; what is returned is taken."""

    def named(self, where: str) -> list[socket.socket]:
        """Return those that were opened for an address as it is written."""

    def at(self, family: int, sockaddr: Any) -> socket.socket | None:
        """Return one that is bound to a socket address, or None."""


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

    def admit(self, mode: int | None, owner: tuple[int, int] | None) -> None:
        """Give the file the permissions and the owner that it is to have; before listen(2).

        By a descriptor of the file: who may write to the folder could put a link in its place.

        Raises:
            OSError: they cannot be given, or somebody did.
        """
        if mode is None and owner is None:
            return
        file = os.open(self.path, os.O_PATH | os.O_NOFOLLOW)
        try:
            found = os.fstat(file)
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.EEXIST, "somebody has put another file in its place")
            name = f"/proc/self/fd/{file}"  # fchmod(2) takes no O_PATH
            if owner is not None:
                os.chown(name, *owner)
            if mode is not None:
                os.chmod(name, mode)
        finally:
            os.close(file)

    def is_ours(self) -> bool:
        """Whether the path is this process's to remove, and names the same file still."""
        return os.getpid() == self.owner and bool(self.file) and _file_at(self.path) == self.file

    def remove(self) -> None:
        """Remove the path, if it is ours still."""
        if self.is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def open_all(
    wheres: Sequence[Address | socket.socket],
    limits: Limits,
    *,
    reuse_port: bool = False,
    alone: bool = False,
    left: Left | None = None,
) -> dict[socket.socket, int]:
    """Open listeners for several addresses, or none.

    Bound sockets among them become ours once all is open; if something cannot be opened, they stay
    the caller's, though they may be listening by then. What a supervisor has passed can be had
    again then.

    Args:
        wheres: them.
        limits, reuse_port, alone: see :func:`open_listeners`.
        left: what need not be opened.

    Returns:
        Each, with the place in ``wheres`` of what it was opened for.

    Raises:
        BindError: see :func:`open_listeners`, :func:`listen_on` and ``passed.listeners``.
    """
    opened: dict[socket.socket, int] = {}
    try:
        for place, where in enumerate(wheres):
            if isinstance(where, socket.socket):
                listen_on(where, limits)
                opened[where] = place
                continue
            found = [] if left is None else left.named(str(where))
            opened.update(dict.fromkeys(found, place))
            for sock in found:
                # a supervisor's socket has one queue, which outlives this process
                _take(sock, limits, reuse_port and not where.fd)
            if not found:
                found = _opened(where, limits, reuse_port, alone, left)
                opened.update(dict.fromkeys(found, place))
    except BaseException:
        for sock in opened:
            if isinstance(sock, passed.PassedListener):
                sock.give_back()
            elif sock not in wheres:
                close_listener(sock)
        raise
    for sock in opened:
        sockets.watch_peers(sock, limits)
    return {
        sockets.taken_over(sock) if sock in wheres else sock: place
        for sock, place in opened.items()
    }


def _opened(
    where: Address, limits: Limits, reuse_port: bool, alone: bool, left: Left | None
) -> list[socket.socket]:
    """Return the listeners of an address that another process has not left to this one."""
    if where.fd:
        return passed.listeners(where, limits)
    return open_listeners(where, limits, reuse_port=reuse_port, alone=alone, left=left)


def open_listeners(
    where: str | int | Address,
    limits: Limits,
    *,
    reuse_port: bool = False,
    alone: bool = False,
    left: Left | None = None,
) -> list[socket.socket]:
    """Open a non-blocking listener for each address that ``where`` resolves to.

    A unix socket is bound with the permissions that the umask leaves (umask(2)), or with those that
    the address asks for: who may write to it may connect (unix(7)).

    Args:
        where: an address.
        limits: the backlog is taken from it.
        reuse_port: set SO_REUSEPORT, so that several processes can share one port.
        alone: they are to be this program's: one that was started twice would have half the clients
            of the other, and nobody would see it.
        left: what need not be opened.

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
            found = None if left is None else left.at(family, sockaddr)
            if found is not None:
                opened.append(found)
                _take(found, limits, reuse_port)
            else:
                if alone and family != socket.AF_UNIX:
                    _refuse_shared(family, sockaddr)
                opened.append(_bound(family, sockaddr, _backlog(limits), reuse_port, parsed))
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


def open_beside(sock: socket.socket, limits: Limits) -> socket.socket:
    """Open a listener at the address of another one, which has SO_REUSEPORT: a queue of its own.

    Raises:
        OSError: it cannot be bound.
    """
    return _bound(sock.family, sock.getsockname(), _backlog(limits), True)


def close_listener(sock: socket.socket) -> None:
    """Close a listener; a path that we bound goes with it, and nobody else's does."""
    if isinstance(sock, UnixListener) and sock.fileno() >= 0:
        sock.remove()
    sock.close()


def inherit(sock: socket.socket) -> None:
    """Make this process's copy of a listener the one whose end removes the path."""
    if isinstance(sock, UnixListener):
        sock.owner = os.getpid()


def disown(sock: socket.socket) -> None:
    """Leave the path of a listener, if it has one, to another process."""
    if isinstance(sock, UnixListener):
        sock.owner = 0


def path_of(sock: socket.socket) -> str:
    """Return the path that goes with a listener of ours, or ""."""
    return sock.path if isinstance(sock, UnixListener) and sock.is_ours() else ""


def is_gone(sock: socket.socket) -> bool:
    """Return whether a listener has lost its path, so that nobody finds it: somebody removed it."""
    return isinstance(sock, UnixListener) and bool(sock.path) and not os.path.lexists(sock.path)


def taken(descriptor: int, path: str) -> socket.socket:
    """Return a listener that another process has handed over, non-blocking.

    Its path is not ours yet.

    Args:
        descriptor: it, which is the socket's from now on.
        path: what goes with it, or "".
    """
    sock: socket.socket
    if path:
        sock = UnixListener(fileno=descriptor)
        sock.remember(path)
        disown(sock)
    else:
        sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


def _take(sock: socket.socket, limits: Limits, reuse_port: bool) -> None:
    """Make a socket that was handed over as one is that we open ourselves."""
    if reuse_port and sock.family != socket.AF_UNIX:
        # for those that are bound beside it from now on, as reuseport_add_sock() of Linux has it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listen_on(sock, limits)


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
    family: socket.AddressFamily,
    sockaddr: Any,
    backlog: int,
    reuse_port: bool,
    where: Address | None = None,
) -> socket.socket:
    """Return a new listener.

    Args:
        where: has the permissions of a unix socket's file. It is never more open than that: the
            file begins with them, less what the umask takes off, and has all of them before
            anybody can connect.
    """
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
        if where is not None and where.mode is not None:
            os.fchmod(sock.fileno(), where.mode)  # what the file begins with (Linux' unix_bind())
        sock.bind(sockaddr)
        if isinstance(sock, UnixListener):
            sock.remember(sockaddr)
            if where is not None:
                sock.admit(where.mode, where.owner)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        close_listener(sock)
        raise
    return sock


def _refuse_shared(family: socket.AddressFamily, sockaddr: Any) -> None:
    """Raise if somebody listens there already, though he would let us, too.

    Raises:
        OSError: EADDRINUSE, or why it cannot be bound at all.
    """
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(sockaddr)


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
    if address.path and exc.errno == errno.EADDRINUSE:
        if _is_no_socket(address.path):
            return "there is a file or folder of that name; remove it, or take another path"
        return "another socket listens there; end it, or take another path"
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
