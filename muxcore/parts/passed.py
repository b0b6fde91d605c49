"""Listeners that a supervisor has opened, and passed to this process: sd_listen_fds(3).

``LISTEN_FDS`` says how many descriptors there are, from 3 on, ``LISTEN_FDNAMES`` what each is
called, and ``LISTEN_PID`` for whom they are. They are read once, and the variables are removed
then: a process that this one starts has none of these. Whoever waits in the queue of such a socket
stays there while this process is replaced by another, since the supervisor has it too; so a unix
socket's path is the supervisor's to remove.
"""

from __future__ import annotations

import errno
import os
import socket

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import BindError
from muxcore.limits import Limits

_FIRST = 3  # SD_LISTEN_FDS_START
_NAMELESS = "unknown"  # what sd_listen_fds_with_names(3) calls one without a name
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_left: dict[int, str] = {}  # those that no server has taken: names by numbers
_taken: dict[int, str] = {}  # the others


class PassedListener(socket.socket):
    """One of them, which is a server's now."""

    def give_back(self) -> None:
        """Leave it to the next one that asks: the start of the server has failed."""
        number = self.detach()
        if number in _taken:
            _left[number] = _taken.pop(number)


def listeners(where: Address, limits: Limits) -> list[socket.socket]:
    """Return those that an address names, in their order.

    Args:
        where: it has a name, which several may have, or a number; by its number any descriptor can
            be had that this process was started with.
        limits: if it has a ``backlog``, that is set; else the supervisor's stays.

    Raises:
        BindError: there is none of this name, or it is no listening stream socket.
    """
    why_not = _read()
    if where.fd.isdigit() and int(where.fd) not in _left:
        numbers = [] if why_not or int(where.fd) in _taken else [int(where.fd)]
    else:
        numbers = [n for n, name in _left.items() if where.fd in (name, str(n))]
    if not numbers:
        why = why_not or _why_none(where)
        raise BindError(errno.ENOENT, f"cannot listen on {where}: {why}")
    found: list[PassedListener] = []
    try:
        for number in numbers:
            found.append(_listener(number, where))
            if limits.backlog:
                found[-1].listen(limits.backlog)
    except BaseException:
        for sock in found:
            sock.give_back()
        raise
    return list(found)


def unnamed() -> list[str]:
    """Describe those that were passed and that no server has taken: nobody would answer there."""
    _read()
    return [f"descriptor {number} (fd:{name}{_at(number)})" for number, name in _left.items()]


def _read() -> str:
    """Read what the environment says, once.

    Returns:
        Why there is nothing, where something is said that is not for this process; else "".
    """
    count, pid = os.environ.get("LISTEN_FDS"), os.environ.get("LISTEN_PID")
    if count is None:
        return ""
    if pid != str(os.getpid()):
        return (
            f"LISTEN_PID is {pid or 'not set'}, and this is process {os.getpid()}: what starts it "
            "has to turn into it, as in `exec muxcore …`"
        )
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal():
        return f"LISTEN_FDS is {count!r}, which is no number"
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    for place in range(int(count)):
        name = names[place] if place < len(names) else ""
        try:
            os.set_inheritable(_FIRST + place, False)
        except OSError:  # it is not open
            continue
        _left[_FIRST + place] = name or _NAMELESS
    return ""


def _why_none(where: Address) -> str:
    if where.fd in _taken.values() or (where.fd.isdigit() and int(where.fd) in _taken):
        return "a server of this process has taken it"
    if not _left and not _taken:
        return (
            "no sockets were passed to this process (LISTEN_FDS is not set): a .socket unit does "
            f"that, or `systemd-socket-activate --fdname={where.fd} -l 9000 …`"
        )
    there = ", ".join(dict.fromkeys([*_taken.values(), *_left.values()]))
    return f"none of the sockets that were passed is called so: there is {there}"


def _listener(number: int, where: Address) -> PassedListener:
    try:
        sock = PassedListener(fileno=number)
    except OSError as exc:
        what = "is not open" if exc.errno == errno.EBADF else "is no socket"
        raise BindError(exc.errno, f"cannot listen on {where}: descriptor {number} {what}") from exc
    fault = _fault(sock)
    if fault:
        sock.detach()
        text = f"cannot listen on {where}: descriptor {number} {fault}"
        raise BindError(errno.EINVAL, text)
    sock.setblocking(False)
    sock.set_inheritable(False)
    _taken[number] = _left.pop(number, str(number))
    return sock


def _fault(sock: socket.socket) -> str:
    """Return what is wrong with what should be a listener, or ""."""
    if sock.type == socket.SOCK_DGRAM:
        return "is a datagram socket: say ListenStream= in the .socket unit, not ListenDatagram="
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        return "is neither a TCP nor a unix stream socket: say ListenStream= in the .socket unit"
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return ""
    try:
        sock.getpeername()
    except OSError:
        return "does not listen: who passes it has to call listen(2)"
    return (
        "is connected: with Accept=yes there is a process for each client; say Accept=no in the "
        ".socket unit"
    )


def _at(number: int) -> str:
    """Return where one listens, for people; "" where it is no such socket."""
    try:
        sock = socket.socket(fileno=number)
    except OSError:
        return ""
    try:
        return f", {addresses.of_socket(sock)}" if sock.family in _FAMILIES else ""
    finally:
        sock.detach()
