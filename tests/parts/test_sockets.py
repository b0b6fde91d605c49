"""Connections that are accepted, and what accept(2) may say instead."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from muxcore.limits import Limits
from muxcore.parts import opening, sockets

# accept(2): these tell of one connection and not of the listener, those that something ran out
_THE_NEXT = [
    getattr(errno, name)
    for name in (
        "ECONNABORTED EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENONET ENOPROTOOPT EOPNOTSUPP "
        "EPERM EPROTO"
    ).split()
    if hasattr(errno, name)
]
_REST = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]

linux = pytest.mark.skipif(sys.platform != "linux", reason="what Linux promises")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    (opened,) = opening.open_listeners(0, Limits())
    with contextlib.closing(opened):
        yield opened


@contextlib.contextmanager
def clients(of: socket.socket, number: int = 1) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(of.getsockname())) for _ in range(number)
        ]


class Says:
    """A listener whose accept(2) answers what a test wants: an errno, or a connection."""

    def __init__(self, *answers: int | socket.socket) -> None:
        self.answers = list(answers)

    def accept(self) -> tuple[socket.socket, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer, ("192.0.2.1", 40_000)


def accept_from(listener: Any) -> tuple[socket.socket, Any] | None:
    return sockets.accept(listener)


def test_who_waits_is_accepted_in_order_and_then_there_is_nobody(listener: socket.socket) -> None:
    with clients(listener, 2) as waiting:
        for client in waiting:
            found = sockets.accept(listener)
            assert found is not None
            sock, peername = found
            with sock:
                assert peername == client.getsockname()
                assert sock.getblocking() is False
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sockets.accept(listener) is None


@pytest.mark.parametrize("number", _THE_NEXT, ids=errno.errorcode.get)
def test_a_connection_that_is_gone_does_not_hide_the_next_one(number: int) -> None:
    left, right = socket.socketpair()
    with left, right:
        assert accept_from(Says(number, number, left)) == (left, ("192.0.2.1", 40_000))
    assert accept_from(Says(number, errno.EAGAIN)) is None


@pytest.mark.parametrize("number", _REST, ids=errno.errorcode.get)
def test_want_of_descriptors_or_memory_is_told_so_that_the_listener_rests(number: int) -> None:
    with pytest.raises(sockets.OutOfResources, match=os.strerror(number)):
        accept_from(Says(number))


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
def test_a_broken_listener_is_an_error_of_its_own(number: int) -> None:
    with pytest.raises(OSError, match=re.escape(f"[Errno {number}]")):
        accept_from(Says(number))


@linux
def test_a_connection_that_was_reset_before_its_accept_tells_so_at_its_first_receive(
    listener: socket.socket,
) -> None:
    with clients(listener) as (client,):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    found = sockets.accept(listener)  # other systems drop it from the queue
    assert found is not None
    with found[0] as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
