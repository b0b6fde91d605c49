"""The kernel is asked to find peers that are gone: of what is accepted, and what is opened."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import muxcore
from muxcore.testing import Peer
from muxcore.testing.upstream import Upstream

_ENGINES = [i.name for i in muxcore.engines() if i.available and "connect" in i.capabilities]
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)


def _options(transport: Any) -> bytes:
    sock = transport.get_extra_info("socket")
    return repr([sock.getsockopt(*option) for option in _OPTIONS]).encode() + b"\n"


def _lines(engine: str, limits: muxcore.Limits) -> list[bytes]:
    """Return what a connection that was accepted has, and one that was opened."""
    with Upstream() as upstream:

        class Near:
            def connection_made(self, transport: Any) -> None:
                transport.write(_options(transport))
                transport.server.connect(upstream.address, lambda: Far(transport))

        class Far:
            def __init__(self, near: Any) -> None:
                self._near = near

            def connection_made(self, transport: Any) -> None:
                self._near.write(_options(transport))
                self._near.close()
                transport.abort()

        options = {"engine": engine, "limits": limits, "allow_threads": True}
        with (
            muxcore.Server(Near, "127.0.0.1:0", **options) as server,
            Peer(server.addresses[0]) as client,
        ):
            return [client.read_line(), client.read_line()]


@pytest.mark.parametrize("engine", _ENGINES)
def test_both_kinds_of_connections_have_what_the_limits_say(engine: str) -> None:
    limits = muxcore.Limits(keepalive=60, user_timeout=2.5)
    for line in _lines(engine, limits):
        assert line.strip() == b"[1, 60, 20, 3, 2500]"


@pytest.mark.parametrize("engine", _ENGINES)
def test_without_them_the_kernel_does_not_ask(engine: str) -> None:
    for line in _lines(engine, muxcore.Limits()):
        assert line.startswith(b"[0, ")
        assert line.strip().endswith(b", 0]")


@pytest.mark.parametrize("engine", _ENGINES)
def test_times_that_the_kernel_cannot_hold_are_the_nearest_it_can(engine: str) -> None:
    limits = muxcore.Limits(keepalive=315_360_000, user_timeout=0.0001)
    for line in _lines(engine, limits):
        assert line.strip() == b"[1, 32767, 32767, 3, 1]"


def test_a_unix_socket_has_no_peer_that_could_be_gone_unnoticed(tmp_path: Any) -> None:
    limits = muxcore.Limits(keepalive=60, user_timeout=2.5)
    where = f"unix:{tmp_path}/s"
    with (
        muxcore.Server(muxcore.Echo, where, limits=limits, engine="pure-select"),
        Peer(where) as client,
    ):
        client.send(b"hello")
        assert client.read(5) == b"hello"
