"""Who is told when the peer reads too slowly: the marks, and how often they are crossed."""

from __future__ import annotations

from typing import Any

import pytest

from muxcore.limits import Limits
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import LOST, MADE, PAUSED, RESUMED, FlowRecorder
from muxcore.testing.suite import EngineSuite

MIB = 1 << 20
KERNEL = MIB  # more than both ends' socket buffers hold together


class Flow(EngineSuite):
    def test_pause_and_resume_come_in_turns(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(FlowRecorder, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            transport = run.protocol(peer).transport
            for _ in range(2):
                run.call(transport.write, bytes(KERNEL))
                run.call(transport.write, b"more")  # above high water already: no second pause
                peer.read(KERNEL + 4)
                run.journal.wait(
                    lambda: run.events(peer)[-1:] == [RESUMED], "resume_writing once all is read"
                )
            assert run.events(peer) == [MADE, PAUSED, RESUMED, PAUSED, RESUMED]

    def test_pause_comes_strictly_above_high_water(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(FlowRecorder, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            transport = run.protocol(peer).transport

            def fill() -> None:
                transport.set_write_buffer_limits(high=10 * KERNEL)
                transport.write(bytes(KERNEL))
                size = transport.get_write_buffer_size()
                assert size > 0
                transport.set_write_buffer_limits(high=size + 10)
                transport.write(bytes(10))  # exactly at the mark
                assert transport.get_write_buffer_size() == size + 10
                self_heard = run.events(peer)
                assert self_heard == [MADE], self_heard
                transport.write(b"x")  # above it

            run.call(fill)
            assert run.wait_for(PAUSED, peer) == [MADE, PAUSED]

    def test_lowering_the_mark_below_what_waits_pauses(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(FlowRecorder, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            transport = run.protocol(peer).transport

            def fill() -> None:
                transport.set_write_buffer_limits(high=10 * KERNEL)
                transport.write(bytes(KERNEL))
                transport.set_write_buffer_limits(high=10)

            run.call(fill)
            assert run.wait_for(PAUSED, peer) == [MADE, PAUSED]

    def test_resume_comes_at_low_water(self) -> None:
        self.needs("flow_control", "threadsafe_calls")

        class Sized(FlowRecorder):
            def resume_writing(self) -> None:
                self.note(self.transport.get_write_buffer_size() <= 100_000)
                super().resume_writing()

        with self.serving(Sized, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            transport = run.protocol(peer).transport
            run.call(lambda: transport.set_write_buffer_limits(high=400_000, low=100_000))
            run.call(transport.write, bytes(KERNEL))
            for _ in range(16):  # slowly: between high and low water there is room to be wrong in
                peer.read(KERNEL // 16)
                peer.pause(0.004)
            assert run.wait_for(RESUMED, peer) == [MADE, PAUSED, ("note", True), RESUMED]

    def test_writing_in_resume_writing_keeps_the_order(self) -> None:
        self.needs("flow_control")

        class Refills(FlowRecorder):
            sent = 0

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.paused = False
                self.fill()

            def fill(self) -> None:
                while not self.paused and self.sent < KERNEL:
                    self.transport.write(pattern(50_000, self.sent))
                    self.sent += 50_000
                if self.sent >= KERNEL:
                    self.transport.close()

            def pause_writing(self) -> None:
                self.paused = True

            def resume_writing(self) -> None:
                self.paused = False
                self.fill()

        with self.serving(Refills, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            size = -(-KERNEL // 50_000) * 50_000
            peer.read_pattern(size)
            peer.read_eof()
            assert run.life(peer) == [MADE, LOST]

    def test_the_marks_follow_from_one_another_as_in_asyncio(self) -> None:
        class Marks(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.note(transport.get_write_buffer_limits())
                transport.set_write_buffer_limits(high=4000)
                self.note(transport.get_write_buffer_limits())
                transport.set_write_buffer_limits(low=300)
                self.note(transport.get_write_buffer_limits())
                transport.set_write_buffer_limits(high=50, low=50)
                self.note(transport.get_write_buffer_limits())
                transport.set_write_buffer_limits(high=0)
                self.note(transport.get_write_buffer_limits())
                for wrong in ({"high": 10, "low": 11}, {"high": 10, "low": -1}, {"high": -1}):
                    with pytest.raises(ValueError, match=r"high|low"):
                        transport.set_write_buffer_limits(**wrong)
                transport.close()

        limits = Limits(write_high=20_000, write_low=3000)
        with self.serving(Marks, limits=limits) as run:
            peer = run.connect()
            notes = [event[1] for event in run.life(peer) if event[0] == "note"]
            assert notes == [(3000, 20_000), (1000, 4000), (300, 1200), (50, 50), (0, 0)]

    def test_an_empty_buffer_has_size_zero(self) -> None:
        class Sizes(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.note(transport.get_write_buffer_size())
                transport.write(b"ready?")

            def data_received(self, data: bytes) -> None:
                self.note(self.transport.get_write_buffer_size())
                self.transport.close()

        with self.serving(Sizes) as run:
            peer = run.connect()
            peer.read(6)
            peer.send(b"x")
            assert run.life(peer) == [MADE, ("note", 0), ("note", 0), LOST]
