"""Where the simulated kernel stands in for the real one: the modules that the engines call.

``installed()`` puts names of ours in place of ``socket``, ``select``, ``fcntl`` and the clock, in
the modules that use them; the engines' own code, their pollers included, is what runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from muxcore.parts import connecting, draining, rates, sockets, timers, waker
from muxcore.pure import attempt, deadlines, epoll_engine, lingering, rated, select_engine
from muxcore.pure import stream_transport as streams

from . import kernel as kernels
from .ends import End, Listener
from .kernel import Kernel


class _Now:
    kernel: Kernel


NOW = _Now()  # the kernel of this run
NAME = "somewhere.example"  # looks up to SOMEWHERE
HOST = "192.0.2.1"  # RFC 5737: nobody's; the port is what becomes of it


class Socket:
    """``socket.socket`` of the simulated kernel: a number, and whatever file has it now."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def __init__(
        self, family: int = -1, kind: int = -1, proto: int = 0, fileno: int | None = None
    ) -> None:
        self._fd = NOW.kernel.install(End(NOW.kernel)) if fileno is None else fileno

    def _end(self) -> Any:
        file = NOW.kernel.file(self._fd)
        if not isinstance(file, End | Listener):
            raise NOW.kernel.error(errno.ENOTSOCK)
        return file

    def fileno(self) -> int:
        return self._fd

    def detach(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        if self._fd >= 0:
            NOW.kernel.close(self.detach())

    def setblocking(self, flag: bool) -> None:
        self._end()

    def recv(self, most: int, flags: int = 0) -> bytes:
        data: bytes = self._end().recv(most)
        _trace("recv", self._fd, len(data))
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        data = self._end().recv(size or len(buffer))
        buffer[: len(data)] = data
        _trace("recv_into", self._fd, len(data))
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        sent: int = self._end().send(memoryview(data))
        _trace("send", self._fd, sent)
        return sent

    def sendmsg(self, parts: Any, ancillary: Any = (), flags: int = 0) -> int:
        sent: int = self._end().send(b"".join(parts))
        _trace("sendmsg", self._fd, sent)
        return sent

    def shutdown(self, how: int) -> None:
        _trace("shutdown", self._fd)
        self._end().shutdown()

    def getpeername(self) -> Any:
        end = self._end()
        if end.dead:
            raise NOW.kernel.error(errno.ENOTCONN)
        return end.peername

    def getsockname(self) -> Any:
        return HOST, 1

    def getsockopt(self, level: int, option: int) -> int:
        number: int = self._end().error_option()
        return number

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        end = self._end()
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET:
            end.resets = struct.unpack("ii", value) == (1, 0)

    def accept(self) -> tuple[Socket, Any]:
        listener: Listener = self._end()
        fd, end = listener.accept()
        _trace("accept", self._fd, fd)
        return Socket(fileno=fd), end.peername

    def connect_ex(self, where: Any) -> int:
        error: int = self._end().connect(where[1])
        return error


def _trace(*what: object) -> None:
    if NOW.kernel.trace is not None:
        NOW.kernel.trace("    " + " ".join(map(str, what)))


def _socketpair() -> tuple[Socket, Socket]:
    one, two = NOW.kernel.pair()
    for end in (one, two):
        end.send_room = end.receive_room = 1 << 16
        end.sound = True
    return Socket(fileno=NOW.kernel.give(one)), Socket(fileno=NOW.kernel.give(two))


def _ioctl(fd: int, request: int, argument: bytes) -> bytes:
    file = NOW.kernel.file(fd)
    if not isinstance(file, End):
        raise NOW.kernel.error(errno.ENOTTY)
    return struct.pack("i", file.unsent())


def _fstat(fd: int) -> object:
    return NOW.kernel.file(fd)


def _monotonic() -> float:
    return NOW.kernel.now


def _select(readers: Any, writers: Any, _: Any, timeout: float | None) -> Any:
    answer = kernels.select(NOW.kernel, set(readers), set(writers), timeout)
    _trace("select", timeout, answer)
    return answer


class _Epoll(kernels.Epoll):
    def __init__(self) -> None:
        super().__init__(NOW.kernel)

    def poll(self, timeout: float = -1, maxevents: int = -1) -> list[tuple[int, int]]:
        answer = super().poll(timeout, maxevents)
        _trace("epoll_wait", timeout, answer)
        return answer


class Lookups:
    """In place of ``muxcore.parts.lookups``: names that wait for their answer.

    Attributes:
        waiting: whom to tell.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[Any], object]] = []

    def look_up(self, where: Any, told: Callable[[Any], object]) -> None:
        self.waiting.append(told)

    def late(self, where: Any, told: Callable[[Any], object]) -> None:
        """Nothing is known of it from before."""

    def forget(self, where: Any, told: Callable[[Any], object]) -> None:
        if told in self.waiting:
            self.waiting.remove(told)

    def answer(self, found: Any) -> None:
        if self.waiting:
            self.waiting.pop(0)(found)


LOOKUPS = Lookups()


def _like(module: Any, **changed: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module), **changed})


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let the engines call the simulated kernel while this is entered."""
    simulated = _like(socket, socket=Socket, socketpair=_socketpair)
    places: list[tuple[Any, str, Any]] = [
        (sockets, "socket", simulated),
        (attempt, "socket", simulated),
        (waker, "socket", simulated),
        (connecting, "lookups", LOOKUPS),
        (epoll_engine, "select", _like(select, epoll=_Epoll)),
        (epoll_engine, "_EVENTS_PER_WAIT", epoll_engine._EVENTS_PER_WAIT),
        (select_engine, "select", _like(select, select=_select)),
        (select_engine, "os", _like(os, fstat=_fstat)),
        (select_engine, "FD_SETSIZE", select_engine.FD_SETSIZE),
        (lingering, "fcntl", SimpleNamespace(ioctl=_ioctl)),
        (lingering, "monotonic", _monotonic),
        (deadlines, "monotonic", _monotonic),
        (streams, "monotonic", _monotonic),
        (draining, "monotonic", _monotonic),
        (rated, "monotonic", _monotonic),
        (rates, "monotonic", _monotonic),
        (timers, "time", SimpleNamespace(monotonic=_monotonic)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def set_sizes(events_per_wait: int, fd_setsize: int) -> None:
    """Make the engines' sizes small, so that a short run meets them."""
    epoll_engine._EVENTS_PER_WAIT = events_per_wait
    select_engine.FD_SETSIZE = fd_setsize
