"""One connection of the readiness engines: its budget, its descriptor, its buffers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from muxcore.limits import Limits
from muxcore.pure.poller import READ, WRITE
from muxcore.pure.stream_transport import StreamTransport
from muxcore.testing import FlowRecorder, Recorder
from muxcore.testing.peer import SMALL, narrow
from muxcore.testing.recorder import LOST, MADE, data, lost
from muxcore.testing.suite import EngineSuite, eventually
from muxcore.testing.survival.clients import EchoWriter, idle_cpu

Pair = tuple[socket.socket, socket.socket]
MIB = 1 << 20


class Silent:
    """A protocol that hears nothing."""


# -- what one connection may take of a turn


class Endless:
    """A socket whose peer takes whatever comes."""

    def __init__(self) -> None:
        self.sends = 0

    def fileno(self) -> int:
        return 1000

    def sendmsg(self, parts: list[bytes], ancillary: Any, flags: int) -> int:
        assert flags == socket.MSG_DONTWAIT
        self.sends += 1
        return sum(map(len, parts))

    def send(self, part: bytes, flags: int) -> int:
        assert flags == socket.MSG_DONTWAIT
        if not self.sends:
            raise BlockingIOError  # the first, so that there is a queue
        self.sends += 1
        return len(part)


def test_a_peer_that_takes_everything_does_not_have_the_loop_to_itself(
    still: Callable[..., Any],
) -> None:
    engine, sock = still(), Endless()
    transport = StreamTransport(engine, sock, Silent(), None)  # type: ignore[arg-type]
    for _ in range(1000):  # 16 calls of 64 buffers
        transport.write(bytes(5000))
    sock.sends = 0
    transport.on_event(WRITE)
    assert sock.sends == 4
    assert transport.get_write_buffer_size() == 5000 * (1000 - 4 * 64)
    (go_on,) = engine.coming_back
    go_on()
    assert sock.sends == 8


# -- one change of what is watched at each mark


def test_passing_high_water_and_falling_to_low_water_change_the_watch_once_each(
    still: Callable[..., Any], pair: Pair, emptied: Callable[[socket.socket], int]
) -> None:
    engine = still(write_high=20_000, write_low=0)
    transport = StreamTransport(engine, pair[0], Silent(), None)
    transport.opened(None)
    engine.masks.clear()
    transport.write(bytes(100_000))
    assert [mask for mask in engine.masks if mask != WRITE] == []
    changes = [
        m for m, before in zip(engine.masks, [READ, *engine.masks], strict=False) if m != before
    ]
    assert changes == [WRITE]
    engine.masks.clear()
    while transport.get_write_buffer_size():
        emptied(pair[1])
        transport.on_event(WRITE)
    assert set(engine.masks) == {READ}


# -- a descriptor that is not the engine's alone


@contextmanager
def _full_up_to(number: int) -> Iterator[None]:
    """Take every free descriptor below ``number``: the next one that is free is the next taken."""
    taken = [os.dup(0)]
    try:
        while taken[-1] < number:
            taken.append(os.dup(0))
        yield
    finally:
        for fd in taken:
            os.close(fd)


def test_a_number_that_somebody_else_freed_serves_the_next_client(suite: EngineSuite) -> None:
    with suite.serving(EchoWriter) as run:
        peer, witness = run.connect(), run.connect()
        number = run.call(run.protocol(peer).transport.get_extra_info, "socket").fileno()
        run.wait_for(MADE, witness)
        with run.held():
            late = run.connect()
            late.send(b"hello")
            with _full_up_to(number):
                os.close(number)
                late_number = os.dup(0)
                assert late_number == number  # the next that is accepted gets it
                os.close(late_number)
        assert late.read(5) == b"hello"
        assert run.life(peer) == [MADE, lost("OSError")]
        for each in (witness, late):
            each.send(b"still served")
            assert each.read(12) == b"still served"
        assert run.server.stats().open == 2


def test_a_descriptor_that_somebody_else_closed_costs_no_cpu(suite: EngineSuite) -> None:
    with suite.serving(EchoWriter) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        number = run.call(transport.get_extra_info, "socket").fileno()
        os.close(number)
        run.call(int)
        idle_cpu()
        run.call(transport.write, b"x")
        assert run.life(peer) == [MADE, lost("OSError")]
        again = run.connect()
        again.send(b"hello")
        assert again.read(5) == b"hello"


def test_a_closed_descriptor_whose_file_a_child_keeps_costs_no_cpu(suite: EngineSuite) -> None:
    with suite.serving(EchoWriter) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        number = run.call(transport.get_extra_info, "socket").fileno()
        kept = os.dup(number)  # as a child has it: the registration outlives the descriptor
        try:
            os.close(number)
            peer.send(b"an event that names nobody")
            assert run.life(peer) == [MADE, lost("OSError")]
            idle_cpu()
            again = run.connect()
            again.send(b"hello")
            assert again.read(5) == b"hello"
        finally:
            os.close(kept)


def test_a_connection_that_somebody_made_blocking_does_not_stop_the_loop(
    suite: EngineSuite,
) -> None:
    class Pours(Recorder):
        def data_received(self, data: bytes) -> None:
            if data == b"pour":
                with self.transport.get_extra_info("socket").dup() as own:
                    own.setblocking(True)
                    self.transport.write(bytes(8 * MIB))
            self.transport.write(b"done")

    with suite.serving(Pours, narrow()) as run:
        deaf, quick = run.connect(receive_buffer=SMALL), run.connect()
        deaf.send(b"pour")
        eventually(
            lambda: run.call(run.protocol(deaf).transport.get_write_buffer_size) > MIB,
            "most of it waits",
        )
        quick.send(b"x")
        assert quick.read(4) == b"done"


# -- a BufferedProtocol


def test_a_buffer_may_be_resized_once_it_was_filled(suite: EngineSuite) -> None:
    class Growing:
        def __init__(self, recorder: Recorder) -> None:
            self.transport = recorder.transport
            self.connection_lost = recorder.connection_lost
            self.buffer = bytearray(1)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.transport.write(bytes(self.buffer[:nbytes]))
            self.buffer += bytes(len(self.buffer))

    class Resizes(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_protocol(Growing(self))

    with suite.serving(Resizes) as run:
        peer = run.play("send 100; read 100; shutdown-write; read-eof")
        assert run.life(peer) == [MADE, LOST]


@pytest.mark.parametrize("act", ["pause_reading", "abort", "echo", "set_protocol"])
def test_what_get_buffer_does_to_its_connection_comes_first(suite: EngineSuite, act: str) -> None:
    class Acts:
        def __init__(self, recorder: Recorder) -> None:
            self.recorder = recorder
            self.connection_lost = recorder.connection_lost

        def get_buffer(self, sizehint: int) -> bytearray:
            call = getattr(self.recorder.transport, act)
            call(self.recorder) if act == "set_protocol" else call()
            return bytearray(100)

        def buffer_updated(self, nbytes: int) -> None:
            self.recorder.note("heard what was not its own")

    class Starts(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_protocol(Acts(self))

    with suite.serving(Starts) as run:
        peer = run.connect()
        transport = run.protocol(peer).transport
        peer.send(b"hello")
        if act == "echo":
            assert peer.read(5) == b"hello"
        elif act == "set_protocol":
            run.wait_for(data(b"hello"), peer)
        elif act == "abort":
            peer.read_end()
        else:
            eventually(lambda: not transport.is_reading(), "it is paused")
            run.call(transport.set_protocol, run.protocol(peer))
            run.call(transport.resume_reading)
            run.wait_for(data(b"hello"), peer)
        run.call(transport.abort)
        assert {event[0] for event in run.life(peer)} <= {
            "connection_made",
            "data_received",
            "connection_lost",
        }


# -- flow control


def test_eof_may_be_sent_by_resume_writing(suite: EngineSuite) -> None:
    class Answers(FlowRecorder):
        def eof_received(self) -> bool:
            self.transport.write(bytes(MIB))
            return True

        def resume_writing(self) -> None:
            if not self.transport.get_write_buffer_size():
                self.transport.write_eof()

    with suite.serving(Answers, narrow(), limits=Limits(write_low=0)) as run:
        for _ in range(3):
            peer = run.connect(receive_buffer=SMALL)
            peer.shutdown_write()
            assert len(peer.read_all()) == MIB
            # nothing has happened to it: it hears its end when it closes, and not before
            run.life(run.play("send 1; reset"))
            assert "connection_lost" not in {event[0] for event in run.events(peer)}
