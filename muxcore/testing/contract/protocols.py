"""What a protocol may be, and what it may do to itself: as asyncio has it."""

from __future__ import annotations

import gc
import os
import socket
import warnings
import weakref
from typing import Any

import pytest

from muxcore.limits import Limits
from muxcore.testing.peer import SMALL, narrow
from muxcore.testing.recorder import FlowRecorder, Recorder, lost
from muxcore.testing.suite import EngineSuite, eventually

MIB = 1 << 20


class Protocols(EngineSuite):
    def test_a_protocol_may_change_what_hears_its_data(self) -> None:
        class TwoStates(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(b"head " + data)
                self.data_received = self.body  # type: ignore[method-assign]

            def body(self, data: bytes) -> None:
                self.transport.write(b"body " + data)

        with self.serving(TwoStates) as run:
            peer = run.connect()
            peer.send(b"one")
            assert peer.read(8) == b"head one"
            peer.send(b"two")
            assert peer.read(8) == b"body two"

    def test_a_protocol_is_freed_at_its_end_without_the_collector(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        alive: list[weakref.ref[Any]] = []
        ends: list[int] = []

        class Cyclic:
            def connection_made(self, transport: Any) -> None:
                alive.append(weakref.ref(self))
                self.transport = transport  # which has the protocol

            def connection_lost(self, exc: BaseException | None) -> None:
                ends.append(1)

        with self.serving(Cyclic) as run:
            gc.disable()
            try:
                for number in range(1, 11):
                    run.play("send 1; close")
                    eventually(lambda n=number: len(ends) == n, "it has ended")  # type: ignore[misc]
                run.call(int)  # the turn of the last end is over
                eventually(lambda: not any(ref() for ref in alive), "all protocols are freed")
            finally:
                gc.enable()

    def test_after_connection_lost_a_transport_has_no_protocol(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            peer.close()
            run.life(peer)
            eventually(lambda: run.call(transport.get_protocol) is None, "it was forgotten")

    @pytest.mark.parametrize("kind", [bytes, lambda n: memoryview(bytes(n))], ids=["bytes", "view"])
    def test_a_buffer_that_cannot_be_written_to_closes_that_connection_only(
        self, kind: Any
    ) -> None:
        class Buffered:
            def __init__(self, recorder: Recorder) -> None:
                self.connection_lost = recorder.connection_lost

            def get_buffer(self, sizehint: int) -> Any:
                return kind(100)

            def buffer_updated(self, nbytes: int) -> None:
                raise AssertionError("nothing can have been received")

        class Fails(Recorder):
            def data_received(self, data: bytes) -> None:
                if data == b"switch":
                    self.transport.set_protocol(Buffered(self))
                self.transport.write(data)

        with self.serving(Fails) as run:
            bad, good = run.connect(), run.connect()
            for peer in (bad, good):
                peer.send(b"switch" if peer is bad else b"stay")
                peer.read(6 if peer is bad else 4)
            bad.send(b"x")
            bad.read_end()
            assert run.life(bad)[-1] in (lost("TypeError"), lost("BufferError"))
            good.send(b"still served")
            assert good.read(12) == b"still served"

    def test_eof_may_be_sent_by_resume_writing(self) -> None:
        self.needs("flow_control", "half_close")

        class Answers(FlowRecorder):
            def eof_received(self) -> bool:
                self.transport.write(bytes(4 * MIB))
                return True

            def resume_writing(self) -> None:
                if not self.transport.get_write_buffer_size():
                    self.transport.write_eof()

        with self.serving(Answers, narrow(), limits=Limits(write_low=0)) as run:
            for _ in range(3):
                peer = run.connect(receive_buffer=SMALL)
                peer.shutdown_write()
                assert len(peer.read_all()) == 4 * MIB
                # nothing has happened to it: it hears its end when it closes, and not before
                run.life(run.play("send 1; reset"))
                assert "connection_lost" not in {event[0] for event in run.events(peer)}

    def test_a_duplicate_of_the_socket_is_its_owners(self) -> None:
        class Duplicates(Recorder):
            def data_received(self, data: bytes) -> None:
                lent = self.transport.get_extra_info("socket")
                own = lent.dup()
                self.note((type(own) is socket.socket, own.gettimeout(), lent.gettimeout()))
                number = own.fileno()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    del own  # and closed by that
                try:
                    os.fstat(number)
                except OSError:
                    self.note("closed")
                lent.settimeout(0)
                lent.setblocking(False)
                for call, value in ((lent.settimeout, 1), (lent.setblocking, True)):
                    try:
                        call(value)
                    except ValueError:
                        self.note("refused")
                self.note(lent.get_inheritable())

        with self.serving(Duplicates) as run:
            peer = run.play("send 1; shutdown-write; read-end")
            notes = [event[1] for event in run.life(peer) if event[0] == "note"]
            wanted = [(True, 0.0, 0.0), "closed", "refused", "refused", False]
            assert notes == wanted
