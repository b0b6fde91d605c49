"""Listeners: opened, shared with the caller, closed with what is theirs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from muxcore import address as addresses
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.parts import opening

linux = pytest.mark.skipif(sys.platform != "linux", reason="what Linux promises")

_ABSTRACT = f"\0muxcore-test-{os.getpid()}"


@linux
def test_a_listener_does_not_block_and_its_backlog_is_what_limits_say() -> None:
    for backlog, expected in [(7, 7), (0, socket.SOMAXCONN)]:
        (opened,) = opening.open_listeners(0, Limits(backlog=backlog))
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
        (opened,) = opening.open_all([mine], Limits(backlog=7))
    with opened:
        assert mine.fileno() == -1
        assert opened.getsockname() == name
        assert opened.getblocking() is False
        socket.create_connection(name).close()


def test_a_socket_of_the_callers_stays_so_if_something_cannot_be_opened() -> None:
    with socket.socket() as mine, socket.create_server(("127.0.0.1", 0)) as taken:
        mine.bind(("127.0.0.1", 0))
        other = addresses.parse(addresses.of_socket(taken))
        with pytest.raises(BindError):
            opening.open_all([mine, other], Limits())
        assert mine.fileno() >= 0
        assert mine.getblocking() is True


def test_when_one_address_of_a_name_fails_the_others_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[socket.socket] = []
    real = opening._bound

    def second_fails(*args: Any) -> socket.socket:
        if bound:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        bound.append(real(*args))
        return bound[0]

    both = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(opening.addresses, "resolve", lambda where, passive: both)
    monkeypatch.setattr(opening, "_bound", second_fails)
    with pytest.raises(BindError):
        opening.open_listeners("localhost:0", Limits())
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

    monkeypatch.setattr(opening, "_bound", fails)
    with pytest.raises(BindError) as caught:
        opening.open_listeners("127.0.0.1:80", Limits())
    assert caught.value.errno == number
    assert str(caught.value.strerror).startswith("cannot listen on 127.0.0.1:80: ")
    assert advice in str(caught.value)


def test_a_path_that_is_listened_on_is_said_without_talk_of_ports(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        with pytest.raises(BindError) as caught:
            opening.open_listeners(f"unix:{tmp_path / 's'}", Limits())
    assert "another socket listens there; end it, or take another path" in str(caught.value)


# -- closing


def test_a_closed_listeners_path_goes_with_it_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = opening.open_listeners(f"unix:{path}", Limits())
    assert path.exists()
    opening.close_listener(opened)
    assert not path.exists()
    path.write_text("somebody else's")
    opening.close_listener(opened)
    assert path.exists()


def test_a_path_that_somebody_else_has_bound_meanwhile_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = opening.open_listeners(f"unix:{path}", Limits())
    path.rename(tmp_path / "old")  # as a restart without a gap does it
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        successor.listen()
        opening.close_listener(opened)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_path_that_the_caller_has_bound_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "s"
    mine = socket.socket(socket.AF_UNIX)
    mine.bind(str(path))
    (opened,) = opening.open_all([mine], Limits())
    opening.close_listener(opened)
    assert path.exists()


def test_a_relative_path_is_removed_also_after_a_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (opened,) = opening.open_listeners("unix:s", Limits())
    monkeypatch.chdir("/")
    opening.close_listener(opened)
    assert not (tmp_path / "s").exists()


def test_a_forked_child_that_closes_its_copy_removes_no_path(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (opened,) = opening.open_listeners(f"unix:{path}", Limits())
    for inherits in (False, True):
        pid = os.fork()
        if pid == 0:
            if inherits:
                opening.inherit(opened)
            opening.close_listener(opened)
            os._exit(0)
        os.waitpid(pid, 0)
        assert path.exists() is not inherits
    opening.close_listener(opened)


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
            opening.open_listeners(f"unix:{path}", Limits())
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_path_that_is_no_socket_is_named_as_what_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    path.mkdir() if kind == "folder" else path.write_text("precious")
    with pytest.raises(BindError, match="there is a file or folder of that name; remove it"):
        opening.open_listeners(f"unix:{path}", Limits())
    assert path.exists()


@linux
def test_an_abstract_name_has_no_path_to_remove() -> None:
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind(_ABSTRACT)
        (opened,) = opening.open_all([mine], Limits())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(_ABSTRACT)
        opening.close_listener(opened)
        assert mine.fileno() == -1
