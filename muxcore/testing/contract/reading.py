"""What arrives, in what order, and when it is held back."""

from __future__ import annotations

from typing import Any

import pytest

from muxcore.testing.peer import Peer, pattern
from muxcore.testing.recorder import EOF, LOST, MADE, Journal, Journaled, Recorder, StaysOpen, data
from muxcore.testing.suite import EngineSuite, Run, eventually

MIB = 1 << 20


class KeepsOpen(Recorder):
    """Answers EOF with a line, and closes then."""

    def eof_received(self) -> bool:
        super().eof_received()
        self.transport.write(b"after your EOF")
        self.transport.close()
        return True


class Buffered(Journaled):
    """A ``BufferedProtocol`` with a small buffer of its own, which writes down like a recorder."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self._recorder = Recorder(journal)
        self._buffer = bytearray(7)

    def connection_made(self, transport: Any) -> None:
        self._recorder.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._recorder.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        self._recorder.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._recorder.connection_lost(exc)


class TurnsBuffered(Recorder):
    """Hands over to a ``BufferedProtocol`` with the first byte it hears."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        buffered = Buffered(self.journal)
        buffered._recorder.key = self.key
        self.transport.set_protocol(buffered)
        assert self.transport.get_protocol() is buffered
        self.transport.write(b"!")


class FirstPauses(Recorder):
    """The first connection of a journal pauses its reading as soon as it is made."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if not self.journal.protocols.keys() - {self.key}:
            transport.pause_reading()


class Reading(EngineSuite):
    def test_data_is_owned_bytes(self) -> None:
        class Types(Recorder):
            def data_received(self, data: bytes) -> None:
                self.note(type(data).__name__)

        with self.serving(Types) as run:
            peer = run.connect()
            peer.send(b"x")
            assert ("note", "bytes") in run.wait_for("note", peer)

    def test_a_mebibyte_arrives_whole_and_in_order(self) -> None:
        with self.serving(Recorder) as run:
            peer = run.connect()
            peer.send(MIB)
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(pattern(MIB)), EOF, LOST]

    def test_bytes_that_come_one_by_one_arrive_in_order(self) -> None:
        with self.serving(Recorder) as run:
            peer = run.connect()
            for byte in b"one by one":
                peer.send(bytes([byte]))
            peer.shutdown_write()
            assert run.life(peer) == [MADE, data(b"one by one"), EOF, LOST]

    def test_data_and_eof_that_come_together_are_both_heard(self) -> None:
        with self.serving(Recorder) as run:
            peers = []
            for _ in range(5):
                peer = run.connect()
                peer.send(b"last words")
                peer.shutdown_write()
                peers.append(peer)
            for peer in peers:
                peer.read_eof()
                assert run.life(peer) == [MADE, data(b"last words"), EOF, LOST]

    def test_eof_at_once_is_heard(self) -> None:
        with self.serving(Recorder) as run:
            peer = run.connect()
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, EOF, LOST]

    def test_eof_without_a_callback_closes(self) -> None:
        class Plain:
            def data_received(self, data: bytes) -> None:
                pass

        with self.serving(Plain) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.shutdown_write()
            peer.read_eof()

    def test_after_eof_a_protocol_may_go_on_writing(self) -> None:
        self.needs("half_close")
        with self.serving(KeepsOpen) as run:
            peer = run.connect()
            peer.shutdown_write()
            assert peer.read_all() == b"after your EOF"
            assert run.life(peer) == [MADE, EOF, LOST]

    def test_after_eof_a_connection_kept_open_stays_open(self) -> None:
        self.needs("half_close", "threadsafe_calls")

        with self.serving(StaysOpen) as run:
            peer = run.connect()
            peer.shutdown_write()
            run.wait_for(EOF, peer)
            transport = run.protocol(peer).transport
            run.call(transport.write, b"later")
            assert peer.read(5) == b"later"
            assert run.events(peer) == [MADE, EOF]
            run.call(transport.close)
            peer.read_eof()
            assert run.life(peer) == [MADE, EOF, LOST]

    # -- pausing

    def test_a_paused_connection_hears_nothing_until_it_resumes(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            peer.send(b"waits")
            _check_nothing_was_heard(run, peer)
            run.call(transport.resume_reading)
            assert run.wait_for(data(b"waits"), peer) == [MADE, data(b"waits")]

    def test_pausing_in_connection_made_holds_the_first_byte(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(FirstPauses) as run:
            peer = run.connect()
            peer.send(b"waits")
            run.wait_for(MADE, peer)
            _check_nothing_was_heard(run, peer)
            run.call(run.protocol(peer).transport.resume_reading)
            run.wait_for(data(b"waits"), peer)

    def test_pausing_in_connection_made_holds_an_end_before_any_byte(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(FirstPauses) as run:
            peer = run.connect()
            peer.shutdown_write()
            run.wait_for(MADE, peer)
            _check_nothing_was_heard(run, peer)
            run.call(run.protocol(peer).transport.resume_reading)
            assert run.life(peer) == [MADE, EOF, LOST]

    def test_pausing_inside_data_received_stops_the_rest(self) -> None:
        self.needs("flow_control", "threadsafe_calls")

        class OneAtATime(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()
                self.note("paused")

        with self.serving(OneAtATime) as run:
            peer = run.connect()
            peer.send(MIB // 2)
            heard = b""
            while len(heard) < MIB // 2:
                before = run.events(peer).count(("note", "paused"))
                if before:
                    run.call(run.protocol(peer).transport.resume_reading)
                eventually(
                    lambda n=before: run.events(peer).count(("note", "paused")) == n + 1,  # type: ignore[misc]
                    "one data_received for each resume_reading",
                )
                heard = b"".join(e[1] for e in run.events(peer) if e[0] == "data_received")
            assert heard == pattern(MIB // 2)
            kinds = [e[0] for e in run.events(peer)][1:]
            assert kinds == ["data_received", "note"] * (len(kinds) // 2)

    def test_eof_waits_while_reading_is_paused(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            peer.send(b"last")
            peer.shutdown_write()
            _check_nothing_was_heard(run, peer)
            run.call(transport.resume_reading)
            assert run.life(peer) == [MADE, data(b"last"), EOF, LOST]

    def test_is_reading_tells_of_the_protocols_own_pause(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            transport = run.protocol(run.connect()).transport

            def states() -> list[bool]:
                seen = [transport.is_reading()]
                for step in (
                    transport.pause_reading,
                    transport.pause_reading,
                    transport.resume_reading,
                    transport.resume_reading,
                    transport.close,
                ):
                    step()
                    seen.append(transport.is_reading())
                return seen

            assert run.call(states) == [True, False, False, True, True, False]

    # -- who hears it

    def test_set_protocol_changes_who_hears(self) -> None:
        class Second(Recorder):
            def data_received(self, data: bytes) -> None:
                self.note(data)

        class First(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                second = Second(self.journal)
                second.key = self.key
                self.transport.set_protocol(second)
                self.transport.write(b"!")

        with self.serving(First) as run:
            peer = run.connect()
            peer.send(b"first")
            peer.read(1)
            peer.send(b"second")
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(b"first"), ("note", b"second"), EOF, LOST]

    def test_a_buffered_protocol_gets_bytes_in_its_own_buffer(self) -> None:
        with self.serving(Buffered) as run:
            peer = run.connect()
            peer.send(1000)
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(pattern(1000)), EOF, LOST]

    def test_a_protocol_may_turn_buffered_in_the_middle(self) -> None:
        with self.serving(TurnsBuffered) as run:
            peer = run.connect()
            peer.send(b"plain")
            peer.read(1)
            peer.send(1000)
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(b"plain" + pattern(1000)), EOF, LOST]

    @pytest.mark.parametrize("ending", ["close", "abort"])
    def test_get_buffer_may_end_its_own_connection_and_no_other(self, ending: str) -> None:
        class Ends(Buffered):
            def get_buffer(self, sizehint: int) -> bytearray:
                getattr(self._recorder.transport, ending)()
                return super().get_buffer(sizehint)

        with self.serving(Ends) as run:
            for _ in range(2):  # the second one is served after the first
                peer = run.connect()
                peer.send(b"hello")
                peer.read_end()
                assert run.life(peer)[-1] == LOST

    def test_get_buffer_may_pause_reading(self) -> None:
        self.needs("flow_control", "threadsafe_calls")

        class Pauses(Buffered):
            paused = False

            def get_buffer(self, sizehint: int) -> bytearray:
                if not self.paused:
                    self.paused = True
                    self._recorder.transport.pause_reading()
                    self._recorder.note("paused")
                return super().get_buffer(sizehint)

        with self.serving(Pauses) as run:
            peer = run.connect()
            peer.send(b"hello")
            run.wait_for(("note", "paused"), peer)
            run.call(run.protocol(peer).transport.resume_reading)
            peer.shutdown_write()
            assert run.life(peer) == [MADE, ("note", "paused"), data(b"hello"), EOF, LOST]

    def test_get_buffer_may_change_the_protocol_of_the_bytes_that_it_was_asked_for(self) -> None:
        class Changes(Buffered):
            def get_buffer(self, sizehint: int) -> bytearray:
                self._recorder.transport.set_protocol(self._recorder)
                return super().get_buffer(sizehint)

            def buffer_updated(self, nbytes: int) -> None:
                self._recorder.note("the protocol before")

        with self.serving(Changes) as run:
            peer = run.connect()
            peer.send(b"hello")
            peer.shutdown_write()
            assert run.life(peer) == [MADE, data(b"hello"), EOF, LOST]

    def test_get_buffer_may_begin_a_verb_for_the_bytes_that_it_was_asked_for(self) -> None:
        class Echoes(Buffered):
            def get_buffer(self, sizehint: int) -> bytearray:
                self._recorder.transport.echo()
                return super().get_buffer(sizehint)

        with self.serving(Echoes) as run:
            peer = run.connect()
            peer.send(b"hello")
            assert peer.read(5) == b"hello"
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, LOST]


def _check_nothing_was_heard(run: Run, peer: Peer) -> None:
    """A peer's protocol has heard nothing but its beginning, although the loop has turned."""
    other = run.connect()  # by the time that it is served, so would have been the first
    other.send(b"x")
    run.wait_for(data(b"x"), other)
    assert run.events(peer) == [MADE]
