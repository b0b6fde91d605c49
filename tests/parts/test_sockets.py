"""Listeners: how they are opened, what accept(2) may say, and how they are closed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore import address as addresses
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.parts import sockets

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

_ABSTRACT = f"\0muxcore-test-{os.getpid()}"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    (opened,) = sockets.open_listeners(0, Limits())
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


# -- accept(2)


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


# -- opening


@linux
def test_a_listener_does_not_block_and_its_backlog_is_what_limits_say() -> None:
    for backlog, expected in [(7, 7), (0, socket.SOMAXCONN)]:
        (opened,) = sockets.open_listeners(0, Limits(backlog=backlog))
        with opened:
            assert opened.getblocking() is False
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert not opened.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            assert backlog_of(opened) == min(expected, somaxconn())


def backlog_of(listener: socket.socket) -> int:
    """Return the longest queue that a listener may have: tcpi_sacked of tcp(7)'s TCP_INFO."""
    size: int = struct.unpack_from("I", listener.getsockopt(6, socket.TCP_INFO, 64), 28)[0]
    return size


def somaxconn() -> int:
    return int(Path("/proc/sys/net/core/somaxconn").read_text())


def test_a_socket_of_the_callers_becomes_a_listener_and_ours() -> None:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        name = mine.getsockname()
        (opened,) = sockets.open_all([mine], Limits(backlog=7))
    with opened:
        assert mine.fileno() == -1
        assert opened.getsockname() == name
        assert opened.getblocking() is False
        with clients(opened):
            pass


def test_a_socket_of_the_callers_stays_so_if_something_cannot_be_opened() -> None:
    with socket.socket() as mine, socket.create_server(("127.0.0.1", 0)) as taken:
        mine.bind(("127.0.0.1", 0))
        other = addresses.parse(addresses.of_socket(taken))
        with pytest.raises(BindError):
            sockets.open_all([mine, other], Limits())
        assert mine.fileno() >= 0
        assert mine.getblocking() is True


def test_when_one_address_of_a_name_fails_the_others_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[socket.socket] = []
    real = sockets._bound

    def second_fails(*args: Any) -> socket.socket:
        if bound:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        bound.append(real(*args))
        return bound[0]

    both = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(sockets.addresses, "resolve", lambda where, passive: both)
    monkeypatch.setattr(sockets, "_bound", second_fails)
    with pytest.raises(BindError):
        sockets.open_listeners("localhost:0", Limits())
    assert bound[0].fileno() == -1


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "take port 0 for a free port"),
        (errno.EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "no address of this machine"),
        (errno.EAFNOSUPPORT, "IPv6 may be off"),
        (errno.EMFILE, "`ulimit -n`"),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS)),  # nothing to add to the kernel's word
    ],
)
def test_a_bind_that_fails_says_where_why_and_what_to_do(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sockets, "_bound", fails)
    with pytest.raises(BindError) as caught:
        sockets.open_listeners("127.0.0.1:80", Limits())
    assert caught.value.errno == number
    assert str(caught.value.strerror).startswith("cannot listen on 127.0.0.1:80: ")
    assert advice in str(caught.value)


# -- closing


def test_a_closed_listeners_path_goes_with_it_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = sockets.open_listeners(f"unix:{path}", Limits())
    assert path.exists()
    sockets.close_listener(opened)
    assert not path.exists()
    path.write_text("somebody else's")
    sockets.close_listener(opened)
    assert path.exists()


def test_a_path_that_somebody_else_has_bound_meanwhile_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = sockets.open_listeners(f"unix:{path}", Limits())
    path.rename(tmp_path / "old")  # as a restart without a gap does it
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        successor.listen()
        sockets.close_listener(opened)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_path_that_the_caller_has_bound_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "s"
    mine = socket.socket(socket.AF_UNIX)
    mine.bind(str(path))
    (opened,) = sockets.open_all([mine], Limits())
    sockets.close_listener(opened)
    assert path.exists()


def test_a_relative_path_is_removed_also_after_a_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (opened,) = sockets.open_listeners("unix:s", Limits())
    monkeypatch.chdir("/")
    sockets.close_listener(opened)
    assert not (tmp_path / "s").exists()


def test_a_forked_child_that_closes_its_copy_removes_no_path(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = sockets.open_listeners(f"unix:{path}", Limits())
    for inherits in (False, True):
        pid = os.fork()
        if pid == 0:
            if inherits:
                sockets.inherit(opened)
            sockets.close_listener(opened)
            os._exit(0)
        os.waitpid(pid, 0)
        assert path.exists() is not inherits
    sockets.close_listener(opened)


def test_a_stale_path_is_looked_at_without_waiting_for_who_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stuck, contextlib.ExitStack() as stack:
        stuck.bind(str(path))
        stuck.listen(0)
        for _ in range(2):  # more than its backlog takes
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(BindError, match="another socket listens there"):
            sockets.open_listeners(f"unix:{path}", Limits())
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_path_that_is_no_socket_is_named_as_what_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    path.mkdir() if kind == "folder" else path.write_text("precious")
    with pytest.raises(BindError, match="there is a file or folder of that name; remove it"):
        sockets.open_listeners(f"unix:{path}", Limits())
    assert path.exists()


@linux
def test_an_abstract_name_has_no_path_to_remove() -> None:
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind(_ABSTRACT)
        (opened,) = sockets.open_all([mine], Limits())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(_ABSTRACT)
        sockets.close_listener(opened)
        assert mine.fileno() == -1
