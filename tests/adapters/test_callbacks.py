"""What callbacks may raise, return and do in the adapters, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading
import weakref
from typing import Any
from unittest import mock

import pytest

import muxcore
from muxcore.testing.peer import DEADLINE, SMALL, narrow
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import eventually

MIB = 1 << 20


class EchoWriter(Recorder):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.mark.parametrize(
    "buffer",
    [b"read-only", bytearray(), None, memoryview(bytearray(10))[::2]],
    ids=["read-only", "empty", "none", "with gaps"],
)
def test_a_buffer_that_cannot_be_filled_closes_that_connection(
    adapter: ProgramSuite, buffer: Any
) -> None:
    class Lends:
        def __init__(self, recorder: Recorder) -> None:
            self.connection_lost = recorder.connection_lost

        def get_buffer(self, sizehint: int) -> Any:
            return buffer

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError("the buffer was filled")

    class Turns(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_protocol(Lends(self))

    with adapter.serving(Turns) as run:
        for _ in range(2):
            peer = run.connect()
            peer.send(b"x")
            peer.read_end()
            assert run.life(peer) == [MADE, lost("TypeError")]


def test_what_is_no_exception_in_a_call_hinders_no_other_call_and_no_stop(
    adapter: ProgramSuite,
) -> None:
    made = threading.Event()

    def cancelled() -> None:
        raise asyncio.CancelledError

    with adapter.serving(Recorder) as run:
        with run.held():
            run.server.call_soon_threadsafe(cancelled)
            run.server.call_soon_threadsafe(made.set)
        assert made.wait(DEADLINE)
        with run.held():
            run.server.call_soon_threadsafe(cancelled)
            run.server.request_stop()
        assert run.server.stop() is True


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "where", ["connection_made", "data_received", "get_buffer", "timer", "call", "service"]
)
def test_what_means_the_program_ends_the_engine_in_order(
    adapter: ProgramSuite, kind: type[BaseException], where: str
) -> None:
    class Leaves(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if where == "connection_made":
                raise kind(5)
            if where == "get_buffer":
                transport.set_protocol(Lends(self))

        def data_received(self, data: bytes) -> None:
            def leave() -> None:
                raise kind(5)

            if where == "timer":
                self.transport.server.call_later(0, leave)
            elif where == "call":
                self.transport.server.call_soon_threadsafe(leave)
            else:
                leave()

    class Lends:
        def __init__(self, recorder: Recorder) -> None:
            self.connection_lost = recorder.connection_lost

        def get_buffer(self, sizehint: int) -> Any:
            raise kind(5)

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError("the buffer was filled")

    with adapter.serving(Recorder) as run:
        peers = [run.connect() for _ in range(3)]
        for peer in peers:
            run.wait_for(MADE, peer)

        def service() -> Any:
            if where == "service":
                raise kind(5)
            return Leaves(run.journal)

        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(b"leave")
            run.server.adopt(ours, service)
            for peer in peers:
                peer.read_end()
                assert run.life(peer) == [MADE, LOST]
        with pytest.raises(kind):
            run.server.stop()


def test_a_protocol_is_freed_without_the_collector(adapter: ProgramSuite) -> None:
    protocols: list[weakref.ref[Any]] = []
    transports: list[Any] = []

    class Keeps:
        def __init__(self) -> None:
            protocols.append(weakref.ref(self))

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transports.append(transport)
            if len(transports) % 2:
                transport.set_protocol(Buffered(self))

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

        def connection_lost(self, exc: BaseException | None) -> None:
            assert self.transport.get_protocol() is self

    class Buffered:
        def __init__(self, first: Keeps) -> None:
            self.first = first
            self.buffer = bytearray(10)
            protocols.append(weakref.ref(self))

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.first.transport.write(self.buffer[:nbytes])

    with adapter.serving(Keeps) as run:
        gc.disable()
        try:
            for ending in ("close", "reset"):
                for _ in range(4):
                    peer = run.connect()
                    peer.send(b"x")
                    peer.read(1)
                    getattr(peer, ending)()
            eventually(lambda: run.server.stats().open == 0, "they are lost")
            assert len(protocols) == 12
            eventually(
                lambda: not any(protocol() for protocol in protocols),
                lambda: f"{sum(protocol() is not None for protocol in protocols)} are kept",
            )
            assert all(transport.get_protocol() is None for transport in transports)
        finally:
            gc.enable()


def test_calls_of_another_thread_are_refused_and_change_nothing(adapter: ProgramSuite) -> None:
    with adapter.serving(EchoWriter) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        for call in (
            lambda: transport.write(b"x"),
            lambda: transport.writelines([b"x"]),
            transport.write_eof,
            transport.close,
            transport.abort,
            transport.pause_reading,
            transport.resume_reading,
            transport.set_write_buffer_limits,
            lambda: transport.set_protocol(None),
            transport.echo,
            transport.discard,
            lambda: transport.relay("127.0.0.1:1"),
            transport.get_write_buffer_size,
            lambda: transport.get_extra_info("bytes"),
            lambda: run.server.call_later(0, print),
        ):
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                call()
        assert transport.get_extra_info("engine") == adapter.engine
        assert transport.get_extra_info("peername")[1] == peer.sock.getsockname()[1]
        assert not transport.is_closing()
        assert transport.is_reading()
        peer.send(b"as before")
        assert peer.read(9) == b"as before"
        peer.close()
        run.life(peer)


def test_a_high_water_mark_beyond_the_loops_own_is_kept(adapter: ProgramSuite) -> None:
    most = 2**31 - 1
    limits = muxcore.Limits(write_high=most, write_buffer=most)
    with adapter.serving(EchoWriter, limits=limits) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        assert run.call(transport.get_write_buffer_limits) == (limits.write_low, most)
        peer.send(b"served")
        assert peer.read(6) == b"served"
        run.call(transport.set_write_buffer_limits, 1 << 70)
        peer.send(b"again")
        assert peer.read(5) == b"again"


def test_an_echo_that_is_begun_between_the_marks_is_protected(adapter: ProgramSuite) -> None:
    """asyncio calls pause_writing once: a verb that begins later must know that it was called."""
    paused = threading.Event()

    class Fills(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=MIB // 2, low=0)
            transport.write(bytes(MIB))

        def pause_writing(self) -> None:
            paused.set()

        def resume_writing(self) -> None:
            self.note("resumed")

    with adapter.serving(Fills, narrow()) as run:
        peer = run.connect(receive_buffer=SMALL)
        transport = run.protocol(peer).transport
        assert paused.wait(DEADLINE)
        got = len(peer.read(MIB // 2))
        eventually(
            lambda: 0 < run.call(transport.get_write_buffer_size) <= MIB // 2, "between the marks"
        )
        run.call(transport.echo)
        taken = peer.send_until_full(16 * MIB)
        assert taken < 8 * MIB
        assert run.call(transport.get_write_buffer_size) < MIB
        peer.shutdown_write()
        assert len(peer.read_all()) == MIB - got + taken


def test_the_socket_of_a_connection_that_is_gone_is_nobodys(adapter: ProgramSuite) -> None:
    with adapter.serving(Recorder) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        sock = run.call(transport.get_extra_info, "socket")
        assert run.call(sock.getsockname)[1] == int(run.address.rpartition(":")[2])
        peer.close()
        run.life(peer)
        eventually(lambda: run.server.stats().open == 0, "it is closed")
        eventually(lambda: sock.fileno() == -1, "the number may be another's by now")
        assert run.call(transport.get_extra_info, "sockname", "unknown") == "unknown"
        assert run.call(transport.get_extra_info, "socket").fileno() == -1


def test_bytes_that_came_early_reach_a_buffered_protocol(adapter: ProgramSuite) -> None:
    """uvloop reads once although connection_made has paused."""

    class Paused(Recorder):
        def __init__(self, journal: Any) -> None:
            super().__init__(journal)
            self.buffer = bytearray(3)

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

        data_received = property()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.record("data_received", bytes(self.buffer[:nbytes]))

    with adapter.serving(Paused) as run:
        peer = run.connect()
        peer.send(b"early bird")
        transport = run.protocol(peer).transport
        other = run.connect()
        run.wait_for(MADE, other)
        assert run.events(peer) == [MADE]
        run.call(transport.resume_reading)
        peer.shutdown_write()
        assert run.wait_for(data(b"early bird"), peer)
        assert run.life(peer)[1] == data(b"early bird")


def test_a_reset_that_the_late_eof_meets_fails_the_connection() -> None:
    """asyncio calls shutdown(2) in the loop once the queue is sent, and lets its error escape."""
    adapter = ProgramSuite()
    adapter.engine = "asyncio"
    reset = OSError(errno.ENOTCONN, "not connected")

    class Pours(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(bytes(2 * MIB))
            self.transport.write_eof()

    with adapter.serving(Pours, narrow()) as run:
        peer = run.connect(receive_buffer=SMALL)
        peer.send(b"?")
        with mock.patch.object(socket.socket, "shutdown", side_effect=reset):
            peer.read(2 * MIB)
            assert run.life(peer) == [MADE, lost("OSError")]
