"""A relay's other side without a transport in Python: every way it can end, and nothing stays."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import muxcore
from muxcore.native import core
from muxcore.native.coming import Coming
from muxcore.services.relay.relay import _Client
from muxcore.testing.peer import Peer
from muxcore.testing.upstream import refusing

from .talking import until

pytestmark = pytest.mark.skipif(core.missing is not None, reason=str(core.missing))


class _Lib:
    """The core, of which some functions are others."""

    def __init__(self, lib: Any, **others: Any) -> None:
        self._lib = lib
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lib, name)


@contextmanager
def _relay(*upstreams: str, limits: muxcore.Limits | None = None, **how: Any) -> Iterator[Any]:
    relay = muxcore.Relay(*upstreams, **how)
    with muxcore.Server(relay, "127.0.0.1:0", engine="native-epoll", limits=limits) as server:
        yield server
        until(lambda: (server.stats().open, server.stats().outgoing) == (0, 0))
        assert not server._engine.connecting
        until(lambda: not any(server._engine._transports))
        assert [each.active for each in relay.stats().values()] == [0] * len(upstreams)


@pytest.fixture
def echo() -> Iterator[str]:
    with muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="native-epoll") as server:
        yield server.addresses[0]


def test_the_relay_service_takes_that_way(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Coming] = []
    begin = Coming.__init__

    def noted(self: Coming, *args: Any) -> None:
        made.append(self)
        begin(self, *args)

    monkeypatch.setattr(Coming, "__init__", noted)
    with _relay(echo) as server, Peer(server.addresses[0]) as client:
        client.send(b"ping")
        assert client.read(4) == b"ping"
    assert len(made) == 1


@pytest.mark.parametrize("how", [{"access_log": lambda record: None}, {}])
def test_what_c_cannot_forget_yet_is_heard_to_its_end(echo: str, how: Any) -> None:
    refused: list[int] = []

    def forget(loop: Any, slot: int, generation: int) -> int:
        if not refused:
            refused.append(slot)
            return -errno.EBUSY
        return int(core.lib.mux_forget(loop, slot, generation))

    with _relay(echo, **how) as server:
        engine = server._engine
        engine.lib = _Lib(core.lib, mux_forget=forget)
        with Peer(server.addresses[0]) as client:
            client.send(b"ping")
            assert client.read(4) == b"ping"
            assert refused
            client.shutdown_write()
            assert client.read_all() == b""


def test_one_that_is_lost_before_it_is_joined_takes_the_client_with_it(echo: str) -> None:
    with _relay(echo) as server:
        server._engine.lib = _Lib(core.lib, mux_relay=lambda *args: -errno.ESTALE)
        with Peer(server.addresses[0]) as client:
            assert client.read_all() == b""


def test_a_callback_that_fails_costs_its_client_alone(
    echo: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    joins, failed = _Client._joins, []

    def fails(self: Any, transport: Any, lease: Any) -> None:
        if failed:
            joins(self, transport, lease)
            return
        failed.append(self)
        transport.set_protocol(lease)
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(_Client, "_joins", fails)
    with _relay(echo) as server, Peer(server.addresses[0]) as first:
        until(lambda: bool(failed))
        with Peer(server.addresses[0]) as second:
            second.send(b"ping")
            assert second.read(4) == b"ping"
        first.reset()  # nobody reads what it says
    assert "planted" in caplog.text


@contextmanager
def _silent() -> Iterator[str]:
    """Have an address that answers nobody: its queue is full."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with socket.create_connection(sock.getsockname()):
            yield f"127.0.0.1:{sock.getsockname()[1]}"


def test_a_client_that_goes_while_its_upstream_is_connected_to_leaves_nothing() -> None:
    with _silent() as where, _relay(where) as server:
        with Peer(server.addresses[0]) as client:
            until(lambda: bool(server._engine.connecting))
            client.reset()
        until(lambda: not server._engine.connecting)


def test_one_that_takes_too_long_is_given_up_and_the_next_is_tried(echo: str) -> None:
    with _silent() as where, _relay(where, echo) as server, Peer(server.addresses[0]) as client:
        client.send(b"ping")
        until(lambda: bool(server._engine.connecting))
        (coming,) = server._engine.connecting
        server.call_soon_threadsafe(coming._too_late)
        assert client.read(4) == b"ping"


def test_one_that_refuses_is_known_by_its_error(caplog: pytest.LogCaptureFixture) -> None:
    with refusing() as where, _relay(where) as server, Peer(server.addresses[0]) as client:
        assert client.read_all() == b""
    assert "Connection refused" in caplog.text


def test_a_server_that_ends_lets_nothing_go_on() -> None:
    with _silent() as where:
        relay = muxcore.Relay(where)
        server = muxcore.Server(relay, "127.0.0.1:0", engine="native-epoll").start()
        with Peer(server.addresses[0]) as client:
            until(lambda: bool(server._engine.connecting))  # type: ignore[attr-defined]
            server.stop()
            assert client.read_all() == b""
        assert relay.stats()[where].active == 0
