"""The listeners of a server: several, shared, taken, and those of unix sockets."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import muxcore
from muxcore.errors import BindError
from muxcore.testing import Peer


def serve(*where: Any, **options: Any) -> muxcore.Server:
    return muxcore.Server(muxcore.Echo, *where, engine="pure-select", **options)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="IPv6 is off here")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@needs_ipv6
def test_several_addresses_are_served_at_once_and_told_in_order(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{bound.getsockname()[1]}"
        with serve("[::1]:0", f"unix:{tmp_path}/s", bound, 0) as server:
            six, unix, mine, port = server.addresses
            assert six.startswith("[::1]:")
            assert unix == f"unix:{tmp_path}/s"
            assert mine == name
            assert port.startswith("127.0.0.1:")
            for where in server.addresses:
                Peer.play(where, "send 10; read 10; close")


def test_port_0_of_a_name_is_one_port_for_all_its_addresses() -> None:
    with serve("localhost:0") as server:
        assert len({where.rpartition(":")[2] for where in server.addresses}) == 1


def test_an_address_that_is_taken_opens_none_of_the_others(tmp_path: Path) -> None:
    before = descriptors()
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(f"unix:{path}", port)
        with pytest.raises(BindError, match="another socket listens there") as caught:
            server.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert f"cannot listen on 127.0.0.1:{port}" in str(caught.value)
    assert not path.exists()
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("192.0.2.1:0", "no address of this machine"),  # RFC 5737: documentation only
        ("no-such-name.invalid:0", "the name has no address"),
        ("unix:/no/such/folder/s", "there is no folder for /no/such/folder/s"),
    ],
)
def test_an_address_that_cannot_be_listened_on_says_why(where: str, words: str) -> None:
    with pytest.raises(BindError, match=words):
        serve(where).start()


def test_a_socket_that_is_no_listener_is_refused() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(BindError, match="bind it first"):
        serve(left).start()


def test_a_unix_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serve(f"unix:{path}") as server:
        Peer.play(server.addresses[0], "send 10; read 10; close")
    assert not path.exists()


def test_a_unix_socket_that_somebody_listens_on_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(BindError, match="another socket listens there"):
            serve(f"unix:{path}").start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(BindError):
        serve(f"unix:{path}").start()
    assert path.read_text() == "precious"


def test_servers_share_a_port_only_if_both_want_to() -> None:
    with serve(0, reuse_port=True) as first:
        with serve(first.addresses[0], reuse_port=True) as second:
            assert second.addresses == first.addresses
        with pytest.raises(BindError):
            serve(first.addresses[0]).start()


def test_a_service_of_workers_that_is_started_twice_does_not_share_its_port_unseen() -> None:
    """The kernel would give each half of the clients: of two configurations, mostly."""
    with (
        serve(0, reuse_port=True) as first,  # as a parent of workers does
        pytest.raises(BindError, match="another socket listens there"),
    ):
        muxcore.Server(muxcore.Echo, first.addresses[0], workers=1).start()


@needs_ipv6
def test_every_interface_in_version_6_leaves_version_4_free() -> None:
    for left in range(20, -1, -1):  # somebody else may have the other family's port
        with serve("[::]:0") as six:
            port = six.addresses[0].rpartition(":")[2]
            try:
                with serve(f"0.0.0.0:{port}"):
                    return
            except BindError:
                if not left:
                    raise
