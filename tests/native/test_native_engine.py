"""What is native-epoll's own: what C keeps from Python, and what it costs."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
import tracemalloc
from typing import Any

import pytest

import muxcore
from muxcore.native import (
    core,
    gathering,
    native_engine,
    native_known,
    native_socket,
    native_verbs,
)

from .talking import DEADLINE, Upper, connect, read, until

if core.missing is not None:
    pytest.skip(f"the C core is not built: {core.missing}", allow_module_level=True)

_SLOT = 128  # bytes of C's slot table, which Python does not count


@pytest.fixture(params=["level", "edge"])
def trigger(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_messages_under_a_verb_cause_no_return_to_python(trigger: str) -> None:
    with (
        muxcore.Server(
            muxcore.Echo, "127.0.0.1:0", engine="native-epoll", trigger=trigger
        ) as server,
        connect(server) as sock,
    ):
        sock.sendall(b"x")
        read(sock, 1)
        before = server._engine.returns()  # type: ignore[attr-defined]
        for _ in range(20_000):
            sock.sendall(b"ping")
            read(sock, 4)
        assert server._engine.returns() == before  # type: ignore[attr-defined]
        until(lambda: server.stats().bytes_out == 80_001)  # counted once send(2) has returned


def test_an_accepted_connection_has_nodelay_without_a_call_of_its_own() -> None:
    seen: list[int] = []

    class Look:
        def connection_made(self, transport: Any) -> None:
            option = socket.IPPROTO_TCP, socket.TCP_NODELAY
            seen.append(transport.get_extra_info("socket").getsockopt(*option))
            transport.close()

    with (
        muxcore.Server(Look, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server) as sock,
    ):
        assert sock.recv(1) == b""
    assert seen == [1]


def test_a_lent_socket_forgets_its_descriptor_when_the_connection_ends() -> None:
    lent: list[Any] = []

    class Keep(Upper):
        def connection_made(self, transport: Any) -> None:
            lent.append(transport.get_extra_info("socket"))

    with (
        muxcore.Server(Keep, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server) as sock,
    ):
        until(lambda: lent)
        assert lent[0].getpeername() == sock.getsockname()
        assert lent[0].fileno() >= 0
        sock.close()
        until(lambda: not server.stats().open)
        assert lent[0].fileno() == -1
        with pytest.raises(OSError, match="has ended"):
            lent[0].getpeername()


@pytest.mark.parametrize("service", [muxcore.Echo, Upper])
def test_stop_and_timers_are_on_time_under_full_load(service: Any, trigger: str) -> None:
    fired: list[float] = []
    with muxcore.Server(service, "127.0.0.1:0", engine="native-epoll", trigger=trigger) as server:
        done = threading.Event()

        def flood() -> None:
            with connect(server) as sock, contextlib.suppress(OSError):
                while not done.is_set():
                    sock.sendall(b"x" * 1000)
                    read(sock, 1000)

        floods = [threading.Thread(target=flood) for _ in range(4)]
        for thread in floods:
            thread.start()
        until(lambda: server.stats().bytes_in > 100_000)
        start = time.monotonic()
        server.call_soon_threadsafe(
            lambda: server.call_later(0.05, lambda: fired.append(time.monotonic() - start))
        )
        until(lambda: fired)
        until(lambda: server.stats().bytes_in > 200_000)  # it was busy before, and still is
        done.set()
        for thread in floods:
            thread.join(DEADLINE)
    assert 0.05 <= fired[0] < 2.0


def test_a_fork_is_refused_by_name_and_harms_nothing() -> None:
    out, to_parent = os.pipe()

    class Fork(Upper):
        def data_received(self, data: bytes) -> None:
            if data != b"fork":
                super().data_received(data)
                return
            if os.fork() == 0:
                try:
                    self.transport.close()  # must not reach into the parent's epoll set
                    server._engine._batch(0)  # type: ignore[attr-defined]
                except RuntimeError as exc:
                    os.write(to_parent, str(exc).encode())
                finally:
                    os._exit(0)
            os.wait()
            self.transport.write(b"DONE")

    with (
        muxcore.Server(Fork, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server) as other,
        connect(server) as sock,
    ):
        other.sendall(b"a")
        assert read(other, 1) == b"A"
        sock.sendall(b"fork")
        assert read(sock, 4) == b"DONE"
        for each in (other, sock):
            each.sendall(b"more")
            assert read(each, 4) == b"MORE"
    assert b"fork of the one" in os.read(out, 1000)
    os.close(out)
    os.close(to_parent)


def test_counters_can_be_read_after_the_end() -> None:
    with (
        muxcore.Server(muxcore.Echo, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server) as sock,
    ):
        sock.sendall(b"hello")
        read(sock, 5)
        sock.close()
        until(lambda: not server.stats().open)
    assert (server.stats().total, server.stats().bytes_in) == (1, 5)


def test_a_transport_can_be_asked_anything_after_the_end_of_its_server() -> None:
    kept: list[Any] = []

    class Keep(Upper):
        def connection_made(self, transport: Any) -> None:
            kept.append(transport)

    with (
        muxcore.Server(Keep, "127.0.0.1:0", engine="native-epoll") as server,
        connect(server),
    ):
        until(lambda: kept)
    transport = kept[0]
    transport.write(b"late")
    transport.set_write_buffer_limits(10)
    transport.pause_reading()
    transport.resume_reading()
    transport.write_eof()
    transport.close()
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    assert transport.get_extra_info("bytes") == (0, 0)
    assert transport.get_extra_info("socket").fileno() == -1
    assert transport.is_closing()


def _grown(service: Any, count: int) -> int:
    """Return what a server with so many idle connections has allocated, by Python's count."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
        address = listener.getsockname()
        waiting = [socket.create_connection(address, timeout=DEADLINE) for _ in range(count)]
        gc.collect()
        tracemalloc.start()
        try:
            with muxcore.Server(service, listener, engine="native-epoll") as server:
                until(lambda: server.stats().open == count)
                gc.collect()
                return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            for sock in waiting:
                sock.close()


@pytest.mark.parametrize(("service", "most"), [(muxcore.Echo, 200), (Upper, 700)])
def test_an_idle_connection_costs_at_most(service: Any, most: int) -> None:
    few, many = 20, 220
    _grown(service, few)  # what is made once, is made now
    each = (_grown(service, many) - _grown(service, few)) / (many - few)
    assert each + _SLOT <= most


@pytest.mark.parametrize("heard", [False, True])
def test_of_a_relay_python_keeps_only_the_side_that_hears_its_end(heard: bool) -> None:
    class Route:
        def connection_made(self, transport: Any) -> None:
            transport.relay(upstream.addresses[0])

    class Listen(Route):
        def connection_lost(self, exc: BaseException | None) -> None:
            lost.append(exc)

    lost: list[BaseException | None] = []
    service = Listen if heard else Route
    with (
        muxcore.Server(muxcore.Echo, "127.0.0.1:0") as upstream,
        muxcore.Server(service, "127.0.0.1:0", engine="native-epoll") as server,
    ):
        with connect(server) as sock:
            sock.sendall(b"ping")
            assert read(sock, 4) == b"ping"
            kept = server._engine.open_transports()  # type: ignore[attr-defined]
            assert len(kept) == int(heard)
            assert (server.stats().open, server.stats().outgoing) == (1, 1)
        until(lambda: server.stats().open == server.stats().outgoing == 0)
    assert lost == [None] * heard


def test_what_python_repeats_of_the_core_is_what_the_core_says() -> None:
    lib, ffi = core.lib, core.ffi
    names = ("ACCEPTED", "DATA", "EOF", "DRAINED", "LOST", "TROUBLE", "CONNECTED", "QUEUED")
    for name in names:
        assert getattr(native_engine, f"_KIND_{name}") == getattr(lib, f"MUX_EV_{name}")
    for verb, number in native_verbs.VERBS.items():
        assert number == getattr(lib, f"MUX_VERB_{verb.name if verb else 'NONE'}")
    for name in ("IDLE", "HALF_CLOSED", "NOT_TAKEN", "PASSED_ON"):
        assert getattr(native_known, name) == getattr(lib, f"MUX_{name}")
    assert native_engine._EVENT.size == ffi.sizeof("mux_event")
    assert gathering.MOST <= lib.MUX_WRITES


def test_an_address_that_is_not_known_is_none() -> None:
    assert native_socket.RawAddress().decoded() is None
    assert native_socket.RawAddress(b"\x01\0").decoded() == ""  # of an unbound unix socket
