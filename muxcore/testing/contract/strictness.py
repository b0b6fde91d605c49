"""The written list: where muxcore is stricter than asyncio, on purpose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import SMALL, narrow
from muxcore.testing.recorder import LOST, MADE, PAUSED, FlowRecorder, Recorder, lost
from muxcore.testing.suite import EngineSuite, eventually

MIB = 1 << 20


class Planned(Exception):
    """What a test's callback raises."""


class Strictness(EngineSuite):
    def test_a_coroutine_for_a_callback_is_refused_when_the_server_is_made(self) -> None:
        class Waits:
            async def data_received(self, data: bytes) -> None: ...

        with pytest.raises(muxcore.ServiceError, match=r"Waits\.data_received is a coroutine"):
            self.server(Waits)

    def test_a_relay_that_a_service_declares_is_refused_when_the_server_is_made(self) -> None:
        class HalfAPair:
            verb = muxcore.Verb.RELAY

        with pytest.raises(muxcore.ServiceError, match=r"HalfAPair declares the verb relay"):
            self.server(HalfAPair)

    def test_a_protocol_with_a_coroutine_for_a_callback_is_refused_its_client(self) -> None:
        class Waits:
            async def data_received(self, data: bytes) -> None: ...

        def make() -> Any:
            return Waits()

        self._refuses_its_client(make)

    def test_a_relay_that_a_protocol_declares_is_refused_its_client(self) -> None:
        class HalfAPair:
            def __init__(self) -> None:
                self.verb = muxcore.Verb.RELAY

        self._refuses_its_client(HalfAPair)

    def _refuses_its_client(self, service: Any) -> None:
        with self.serving(service) as run:
            peer = run.connect()
            peer.read_end()
            eventually(lambda: run.server.stats().errors == {"ServiceError": 1}, "it is counted")

    def test_an_exception_in_connection_made_closes_that_connection(self) -> None:
        class Fails(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                raise Planned

        with self.serving(Fails) as run:
            peer = run.connect()
            peer.read_end()
            assert run.life(peer) == [MADE, lost("Planned")]

    def test_a_declared_verb_that_connection_made_has_ruled_out_closes_that_connection(
        self,
    ) -> None:
        class EndsFirst(Recorder):
            verb = muxcore.Verb.ECHO

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write_eof()

        with self.serving(EndsFirst) as run:
            for _ in range(2):  # the engine goes on
                peer = run.connect()
                peer.read_end()
                assert run.life(peer) == [MADE, lost("ValueError")]

    def test_an_exception_in_data_received_closes_that_connection_only(self) -> None:
        class Fails(Recorder):
            def data_received(self, data: bytes) -> None:
                if data == b"fail":
                    raise Planned
                super().data_received(data)
                self.transport.write(data)

        with self.serving(Fails) as run:
            good, bad = run.connect(), run.connect()
            good.send(b"one")
            assert good.read(3) == b"one"
            bad.send(b"fail")
            bad.read_end()
            assert run.life(bad) == [MADE, lost("Planned")]
            good.send(b"two")
            assert good.read(3) == b"two"

    def test_what_is_no_exception_closes_the_connection_that_raised_it_only(self) -> None:
        class Raises(Recorder):
            def data_received(self, data: bytes) -> None:
                if data == b"raise":
                    raise asyncio.CancelledError  # derives from BaseException
                self.transport.write(data)

        with self.serving(Raises) as run:
            good, bad = run.connect(), run.connect()
            bad.send(b"raise")
            bad.read_end()
            assert run.life(bad) == [MADE, lost("CancelledError")]
            good.send(b"still there?")
            assert good.read(12) == b"still there?"

    def test_an_exception_in_eof_received_closes_that_connection(self) -> None:
        class Fails(Recorder):
            def eof_received(self) -> None:
                raise Planned

        with self.serving(Fails) as run:
            peer = run.connect()
            peer.shutdown_write()
            peer.read_end()
            assert run.life(peer) == [MADE, lost("Planned")]

    @pytest.mark.parametrize("callback", ["get_buffer", "buffer_updated"])
    def test_an_exception_in_a_buffered_callback_closes_that_connection(
        self, callback: str
    ) -> None:
        class Buffered:
            def __init__(self, recorder: Recorder) -> None:
                self.connection_lost = recorder.connection_lost

            def get_buffer(self, sizehint: int) -> bytearray:
                if callback == "get_buffer":
                    raise Planned
                return bytearray(10)

            def buffer_updated(self, nbytes: int) -> None:
                raise Planned

        class Fails(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.set_protocol(Buffered(self))

        with self.serving(Fails) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read_end()
            assert run.life(peer) == [MADE, lost("Planned")]

    def test_an_exception_in_pause_writing_closes_that_connection(self) -> None:
        self.needs("flow_control")

        class Fails(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))

            def pause_writing(self) -> None:
                raise Planned

        with self.serving(Fails, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert run.life(peer) == [MADE, lost("Planned")]

    def test_an_exception_in_resume_writing_closes_that_connection(self) -> None:
        self.needs("flow_control")

        class Fails(FlowRecorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))

            def resume_writing(self) -> None:
                raise Planned

        with self.serving(Fails, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            run.wait_for(PAUSED, peer)
            peer.read_end()
            assert run.life(peer) == [MADE, PAUSED, lost("Planned")]

    def test_an_exception_in_connection_lost_harms_nobody(self) -> None:
        class Fails(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                super().connection_lost(exc)
                raise Planned

        with self.serving(Fails) as run:
            for _ in range(2):
                peer = run.connect()
                peer.shutdown_write()
                peer.read_eof()
                assert run.life(peer)[-1] == LOST

    def test_a_protocol_without_pause_writing_is_protected(self) -> None:
        class Multiplies(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data * 4)

        with self.serving(Multiplies, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            taken = peer.send_until_full(62 * MIB)
            assert taken < 32 * MIB  # what the kernel's buffers hold, and no more
            if "threadsafe_calls" in self.capabilities:
                transport = run.protocol(peer).transport
                assert run.call(transport.get_write_buffer_size) < MIB
                assert run.call(transport.is_reading)  # its own pause_reading is another matter
            peer.shutdown_write()
            assert len(peer.read_all()) == 4 * taken

    def test_protection_does_not_lift_the_protocols_own_pause(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            run.call(transport.write, bytes(2 * MIB))
            peer.send(b"held")
            peer.read(2 * MIB)
            run.journal.wait(
                lambda: run.call(transport.get_write_buffer_size) == 0, "an empty write buffer"
            )
            run.life(run.play("send 1; close"))
            assert run.events(peer) == [MADE]
            run.call(transport.resume_reading)
            run.wait_for(("data_received", b"held"), peer)

    def test_a_write_buffer_beyond_its_cap_aborts_the_connection(self) -> None:
        self.needs("flow_control")

        class Floods(FlowRecorder):
            def data_received(self, data: bytes) -> None:
                for _ in range(64):
                    self.transport.write(bytes(MIB))

        with self.serving(Floods, narrow(), limits=Limits(write_buffer=2 * MIB)) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"go")
            peer.read_end()
            assert run.life(peer)[-1] == lost("BufferLimitExceeded")
            assert run.server.stats().errors["BufferLimitExceeded"] == 1
