"""How a connection ends: by either side, kindly or not, and exactly once."""

from __future__ import annotations

from typing import Any

from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import EngineSuite, eventually

MIB = 1 << 20


class Closing(EngineSuite):
    def test_close_sends_what_is_queued_first(self) -> None:
        class Closes(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(pattern(2 * MIB))
                self.transport.close()

        with self.serving(Closes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"go")
            peer.read_pattern(2 * MIB)
            peer.read_eof()
            assert run.life(peer) == [MADE, data(b"go"), LOST]

    def test_connection_lost_comes_after_close_has_returned(self) -> None:
        class Closes(Recorder):
            def data_received(self, data: bytes) -> None:
                self.note(self.transport.is_closing())
                self.transport.close()
                self.note(self.transport.is_closing())

        with self.serving(Closes) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read_eof()
            assert run.life(peer) == [MADE, ("note", False), ("note", True), LOST]

    def test_connection_lost_comes_after_abort_has_returned(self) -> None:
        class Aborts(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.abort()
                self.note(self.transport.is_closing())

        with self.serving(Aborts) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read_end()
            assert run.life(peer) == [MADE, ("note", True), LOST]

    def test_abort_drops_what_is_queued(self) -> None:
        self.needs("flow_control")

        class Aborts(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(2 * MIB))
                transport.abort()

        with self.serving(Aborts, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert run.life(peer) == [MADE, LOST]  # though the peer has not read a byte
            eventually(lambda: run.server.stats().open == 0, "no connection is open")

    def test_closing_twice_and_aborting_after_is_one_end(self) -> None:
        class Closes(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.close()
                self.transport.close()
                self.transport.abort()
                self.transport.close()

        with self.serving(Closes) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read_end()
            run.life(peer)
            run.play("send 1; read-end")  # by now a second connection_lost would have come
            assert run.events(peer) == [MADE, LOST]

    def test_nothing_is_heard_after_close(self) -> None:
        class Closes(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data[:1])
                self.transport.close()

        with self.serving(Closes) as run:
            peer = run.connect()
            peer.send(pattern(65_536)[1:] + pattern(65_536))  # more than one receive
            peer.read_end()
            assert run.life(peer) == [MADE, data(b"\0"), LOST]

    def test_nothing_is_heard_while_a_close_still_sends(self) -> None:
        self.needs("flow_control")

        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(pattern(2 * MIB))
                transport.close()

        with self.serving(Closes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"ignored")
            peer.read_end()  # by a reset: the kernel answers a close before all was read so
            assert run.life(peer) == [MADE, LOST]

    def test_close_in_connection_made_delivers_nothing(self) -> None:
        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.close()

        with self.serving(Closes) as run:
            peer = run.connect()
            peer.read_end()
            assert run.life(peer) == [MADE, LOST]

    def test_abort_in_connection_made_delivers_nothing(self) -> None:
        class Aborts(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.abort()

        with self.serving(Aborts) as run:
            peer = run.connect()
            peer.read_end()
            assert run.life(peer) == [MADE, LOST]

    def test_close_in_eof_received_is_one_end(self) -> None:
        class Closes(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                self.transport.close()
                return False

        with self.serving(Closes) as run:
            peer = run.connect()
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, EOF, LOST]

    def test_after_close_the_other_calls_are_harmless(self) -> None:
        class Calls(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.close()
                self.transport.pause_reading()
                self.transport.resume_reading()
                self.transport.write_eof()
                self.transport.get_write_buffer_size()
                self.note("fine")

        with self.serving(Calls) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read_end()
            assert run.life(peer) == [MADE, ("note", "fine"), LOST]

    def test_a_reset_reaches_connection_lost_as_an_error(self) -> None:
        with self.serving(Recorder) as run:
            peer = run.connect()
            peer.send(b"x")
            run.wait_for(data(b"x"), peer)
            peer.reset()
            assert run.life(peer) == [MADE, data(b"x"), lost("ConnectionResetError")]

    def test_a_reset_while_paused_is_heard_at_the_latest_when_reading_resumes(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            peer.reset()
            run.play("send 1; close")  # a turn or two for the reset to arrive in
            run.call(transport.resume_reading)
            assert run.life(peer) == [MADE, lost("ConnectionResetError")]

    def test_writing_to_a_peer_that_went_away_ends_in_an_error(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            protocol = run.protocol(peer)
            run.call(protocol.transport.pause_reading)
            peer.reset()

            def write_until_lost() -> bool:
                for _ in range(5):
                    protocol.transport.write(b"x")
                return "connection_lost" in {e[0] for e in run.events(peer)}

            run.journal.wait(lambda: run.call(write_until_lost), "connection_lost after writing")
            assert run.life(peer)[-1][1] in ("ConnectionResetError", "BrokenPipeError")

    def test_the_peername_is_known_after_a_reset(self) -> None:
        class Remembers(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                self.note(tuple(self.transport.get_extra_info("peername")))
                super().connection_lost(exc)

        with self.serving(Remembers) as run:
            peer = run.connect()
            run.wait_for(MADE, peer)
            peer.reset()
            assert ("note", peer.name) in run.life(peer)

    def test_the_end_of_the_server_closes_every_connection(self) -> None:
        with self.serving(Recorder) as run:
            peers = [run.connect() for _ in range(3)]
            for peer in peers:
                run.wait_for(MADE, peer)
            assert run.server.stop() is True
            for peer in peers:
                peer.read_eof()
                assert run.life(peer) == [MADE, LOST]

    def test_the_end_of_the_server_sends_what_is_queued(self) -> None:
        self.needs("flow_control")

        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(pattern(2 * MIB))

        with self.serving(Writes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            run.wait_for(MADE, peer)
            run.server.request_stop()
            peer.read_pattern(2 * MIB)
            peer.read_eof()
            assert run.server.stop() is True

    def test_witnesses_hear_of_the_end_once_after_the_protocol_whoever_that_is_by_then(
        self,
    ) -> None:
        for gone in (False, True):
            with self.serving(_watched(gone)) as run:
                peer = run.connect()
                peer.send(b"x")
                assert peer.read(1) == b"x"
                peer.reset()
                ends = [("note", ("first", False)), ("note", ("second", False))]
                run.wait_for(ends[1], peer)
                events = [each for each in run.events(peer) if each[0] != "data_received"]
                lost = [] if gone else [each for each in events if each[0] == "connection_lost"]
                assert events == [MADE, *lost, *ends]
                assert len(lost) == (0 if gone else 1)

    def test_a_witness_hears_of_the_end_of_a_verb_that_has_no_protocol(self) -> None:
        with self.serving(_watched(True, "echo")) as run:
            peer = run.connect()
            peer.send(b"x")
            assert peer.read(1) == b"x"
            peer.close()
            ends = [("note", ("first", True)), ("note", ("second", True))]
            run.wait_for(ends[1], peer)
            assert run.events(peer) == [MADE, *ends]


class _Witness:
    def __init__(self, note: Any, name: str) -> None:
        self._note = note
        self._name = name

    def connection_lost(self, exc: BaseException | None) -> None:
        self._note((self._name, exc is None))


def _watched(gone: bool, verb: str = "") -> type[Recorder]:
    """Return a protocol of whose end two others hear; perhaps it has let go of the connection."""

    class Watched(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            for name in ("first", "second"):
                transport.add_witness(_Witness(self.note, name))
            if verb:
                transport.set_protocol(None)
                getattr(transport, verb)()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)
            if gone:
                self.transport.set_protocol(None)

    return Watched
