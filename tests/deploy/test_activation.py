"""Sockets that a supervisor has opened: served by name, and his when we are gone."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import muxcore
from muxcore import address
from muxcore.testing import Peer, eventually
from muxcore.testing.proc import children

from .supervisor import Supervisor, Unit


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def name_of(sock: socket.socket) -> str:
    return address.of_socket(sock)


def echoes(where: str) -> None:
    with Peer(where) as peer:
        peer.send(b"hello")
        assert peer.read(5) == b"hello"


def end(unit: Unit) -> None:
    unit.signal(signal.SIGTERM)
    assert unit.status() == 0, unit.printed()


def test_every_socket_of_a_name_is_served_of_whatever_family(
    supervisor: Supervisor, folder: Path, tcp: socket.socket
) -> None:
    with contextlib.ExitStack() as opened:
        sockets = [("web", tcp)]
        if socket.has_ipv6:
            with contextlib.suppress(OSError):
                six = socket.create_server(("::1", 0), family=socket.AF_INET6)
                sockets.append(("web", opened.enter_context(six)))
        unix = opened.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(folder / "s"))
        unix.listen()
        admin = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        sockets += [("web", unix), ("admin", admin)]
        unit = supervisor.start("-m", "muxcore", "echo", "fd:web", sockets=sockets)
        supervisor.until_word("READY", "1")
        for name, sock in sockets:
            if name == "web":
                echoes(name_of(sock))
        end(unit)
        assert (folder / "s").exists()  # it is the supervisor's
        why = f"descriptor {2 + len(sockets)} (fd:admin, {name_of(admin)}) was passed, and no"
        assert why in unit.printed()


def test_whoever_comes_before_and_after_a_process_is_served(
    supervisor: Supervisor, tcp: socket.socket
) -> None:
    for _ in range(2):
        with Peer(name_of(tcp)) as early:
            early.send(b"early")
            unit = supervisor.start("-m", "muxcore", "echo", "fd:web", sockets=[("web", tcp)])
            assert early.read(5) == b"early"
        end(unit)


@pytest.mark.deep
def test_workers_share_one_queue_and_inherit_no_variable(
    supervisor: Supervisor, folder: Path, tcp: socket.socket
) -> None:
    (folder / "app.py").write_text(
        "import os\n"
        "class Pid:\n"
        "    def connection_made(self, transport):\n"
        "        told = [name for name in os.environ if name[:6] in ('LISTEN', 'NOTIFY')]\n"
        "        transport.write(f'{os.getpid()} {told}\\n'.encode())\n"
        "        self.transport = transport\n"
        "    def data_received(self, data): ...\n"
    )
    command = ["-m", "muxcore", "serve", "app:Pid", "fd:web", "--workers", "2"]
    unit = supervisor.start(*command, "--balance", "exact", sockets=[("web", tcp)])
    supervisor.until_word("READY", "1")
    with Peer(name_of(tcp)) as one, Peer(name_of(tcp)) as other:
        said = [peer.read_line().decode().split(maxsplit=1) for peer in (one, other)]
        assert len({pid for pid, _ in said}) == 2
        assert {told.strip() for _, told in said} == {"[]"}
        assert {int(pid) for pid, _ in said} <= set(children(unit.pid))
    end(unit)


def test_what_cannot_be_listened_on_ends_the_command(
    supervisor: Supervisor, tcp: socket.socket
) -> None:
    unit = supervisor.start("-m", "muxcore", "echo", "fd:wbe", sockets=[("web", tcp)])
    assert unit.status() == 1
    why = "cannot listen on fd:wbe: none of the sockets that were passed is called so: there is web"
    assert unit.printed() == f"muxcore: {why}\n"


def test_a_passed_socket_is_nowhere_to_connect_to() -> None:
    for make in (muxcore.Upstream, muxcore.Relay):
        with pytest.raises(muxcore.AddressError, match="nowhere to connect to"):
            make("fd:web")


@pytest.mark.deep
def test_relays_take_them_as_well(supervisor: Supervisor, tcp: socket.socket) -> None:
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0") as upstream:
        command = ["-m", "muxcore", "relay", "fd:web", upstream.addresses[0]]
        unit = supervisor.start(*command, sockets=[("web", tcp)])
        supervisor.until_word("READY", "1")
        echoes(name_of(tcp))
        end(unit)


@pytest.mark.real
def test_systemds_own_client_of_this(supervisor: Supervisor, folder: Path) -> None:
    from tests.real.programs import find

    path = folder / "s"
    wrapper = [find("systemd-socket-activate"), "-l", str(path), "--fdname=web", "-E", "PYTHONPATH"]
    unit = supervisor.start("-m", "muxcore", "echo", "fd:web", wrapper=wrapper)
    eventually(path.exists, "it does not listen")
    echoes(f"unix:{path}")
    end(unit)
