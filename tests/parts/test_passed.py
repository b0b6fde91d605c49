"""Listeners that were passed, within one process: taken once, and given back if a start fails."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import muxcore
from muxcore import address
from muxcore.errors import BindError
from muxcore.limits import Limits
from muxcore.parts import opening, passed

_FIRST = 700  # in the place of 3: numbers that nobody has here
_NAMES = ["web", "admin", "feed", "file", "one", "other", "deaf", ""]


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Two listeners and what cannot be one, as a supervisor passes it; yields where they listen."""
    with contextlib.ExitStack() as opened:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        wrong = [
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            (tmp_path / "file").open("w"),
            *socket.socketpair(),
            socket.socket(),
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        ]
        for number, each in enumerate([*listeners, *wrong], _FIRST):
            os.dup2(opened.enter_context(each).fileno(), number, inheritable=True)
            opened.callback(_close, number)
        monkeypatch.setattr(passed, "_FIRST", _FIRST)
        monkeypatch.setattr(passed, "_left", {})
        monkeypatch.setattr(passed, "_taken", {})
        monkeypatch.setenv("LISTEN_FDS", str(len(_NAMES)))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDNAMES", ":".join(_NAMES))
        yield [address.of_socket(each) for each in listeners]


def _close(number: int) -> None:
    with contextlib.suppress(OSError):  # a server has closed it
        os.close(number)


def test_they_are_taken_as_they_are_and_no_process_inherits_them(given: list[str]) -> None:
    (sock,) = opening.open_all([address.parse("fd:web", listen=True)], Limits())
    assert address.of_socket(sock) == given[0]
    assert not sock.getblocking()
    assert not any(os.get_inheritable(number) for number in (_FIRST, _FIRST + 1))
    assert not any(name.startswith("LISTEN_") for name in os.environ)
    assert passed.unnamed()[0] == f"descriptor {_FIRST + 1} (fd:admin, {given[1]})"
    assert passed.unnamed()[2] == f"descriptor {_FIRST + 3} (fd:file)"
    assert passed.unnamed()[-1].startswith(f"descriptor {_FIRST + 7} (fd:unknown")
    opening.close_listener(sock)


def test_a_start_that_fails_leaves_them_to_the_next_one(given: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = muxcore.Server(muxcore.Echo, "fd:web", address.of_socket(taken))
        with pytest.raises(BindError, match="another socket listens there"):
            server.start()
    with muxcore.Server(muxcore.Echo, "fd:web", "fd:admin") as server:
        assert server.addresses == given


def test_each_is_one_servers(given: list[str]) -> None:
    with muxcore.Server(muxcore.Echo, "fd:web"):
        for where in ("fd:web", f"fd:{_FIRST}"):
            second = muxcore.Server(muxcore.Echo, where)
            with pytest.raises(BindError, match="a server of this process has taken it"):
                second.start()


def test_a_backlog_of_ours_is_set_and_else_the_supervisors_stays(given: list[str]) -> None:
    from tests.parts.test_opening import backlog_of

    for name, limits in (("web", Limits()), ("admin", Limits(backlog=7))):
        (sock,) = opening.open_all([address.Address(fd=name)], limits)
        assert backlog_of(sock) == (7 if limits.backlog else 128)  # create_server()'s own
        opening.close_listener(sock)


def test_a_number_names_one_of_them_or_whatever_else_this_process_has(given: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        wanted = [address.Address(fd=str(number)) for number in (_FIRST + 1, mine.fileno())]
        sockets = list(opening.open_all(wanted, Limits()))
        assert [address.of_socket(sock) for sock in sockets] == [given[1], address.of_socket(mine)]
        opening.close_listener(sockets[0])
        sockets[1].detach()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wbe", "none of the sockets that were passed is called so: there is web, admin, feed"),
        ("feed", "is a datagram socket: say ListenStream= in the .socket unit, not ListenDatagram"),
        ("file", f"descriptor {_FIRST + 3} is no socket"),
        ("one", "is connected: with Accept=yes there is a process for each client; say Accept=no"),
        ("deaf", "does not listen: who passes it has to call listen"),
        ("unknown", "is neither a TCP nor a unix stream socket: say ListenStream= in the"),
        ("999", "descriptor 999 is not open"),
    ],
)
def test_what_cannot_be_listened_on_is_refused_and_left(
    name: str, said: str, given: list[str]
) -> None:
    with pytest.raises(BindError, match=re.escape(f"cannot listen on fd:{name}: ")) as raised:
        opening.open_all([address.Address(fd="web"), address.Address(fd=name)], Limits())
    assert said in str(raised.value)
    assert len(passed.unnamed()) == len(_NAMES)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"LISTEN_PID": "1"}, "LISTEN_PID is 1, and this is process "),
        ({"LISTEN_PID": ""}, "LISTEN_PID is not set, and this is process "),
        ({"LISTEN_FDS": "two"}, "LISTEN_FDS is 'two', which is no number"),
        ({"LISTEN_FDS": "0"}, "no sockets were passed to this process"),
    ],
)
def test_what_is_not_for_this_process_is_not_taken(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("web", str(_FIRST)):
        if name == "web" or "PID" in said:
            with pytest.raises(BindError, match=re.escape(said)):
                passed.listeners(address.Address(fd=name), Limits())
    assert passed.unnamed() == []
