"""From here on the engine moves the bytes: echo and discard."""

from __future__ import annotations

from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import EngineSuite

MIB = 1 << 20


class Verbs(EngineSuite):
    def test_echo_sends_everything_back_and_answers_eof(self) -> None:
        with self.serving(muxcore.Echo) as run:
            run.play(f"send {MIB // 4}; read {MIB // 4}; shutdown-write; read-eof")

    def test_echo_answers_eof_once_all_is_sent_back(self) -> None:
        with self.serving(muxcore.Echo, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            taken = peer.send_until_full(62 * MIB)
            assert taken < 32 * MIB  # a peer that does not read is not read from
            peer.shutdown_write()
            assert len(peer.read_all()) == taken

    def test_discard_answers_nothing_and_closes_at_eof(self) -> None:
        with self.serving(muxcore.Discard) as run:
            run.play(f"send {MIB}; shutdown-write; read-eof")
            assert run.server.stats().bytes_out == 0

    def test_echo_begins_with_the_next_byte_after_earlier_writes(self) -> None:
        class Hands(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(pattern(2 * MIB))
                self.transport.echo()

        with self.serving(Hands, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(b"hello")
            run.wait_for(data(b"hello"), peer)
            peer.send(b"echoed")
            peer.read_pattern(2 * MIB)
            assert peer.read(6) == b"echoed"
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, data(b"hello"), LOST]

    def test_echo_in_connection_made_takes_every_byte(self) -> None:
        class Hands(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.echo()

        with self.serving(Hands) as run:
            peer = run.play("send 100000; read 100000; shutdown-write; read-eof")
            assert run.life(peer) == [MADE, LOST]

    def test_discard_in_data_received_hears_no_more(self) -> None:
        class Hands(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data[:4])
                self.transport.discard()

        with self.serving(Hands) as run:
            peer = run.play("send 1000000; shutdown-write; read-eof")
            assert run.life(peer) == [MADE, data(pattern(4)), LOST]

    def test_a_verb_lifts_the_protocols_pause(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            peer.send(b"waited")
            run.call(transport.echo)
            assert peer.read(6) == b"waited"
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer) == [MADE, LOST]

    def test_a_verb_after_the_peers_eof_answers_it(self) -> None:
        self.needs("half_close")

        class Hands(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                self.transport.write(b"and now echo")
                self.transport.echo()
                return True

        with self.serving(Hands) as run:
            peer = run.connect()
            peer.shutdown_write()
            assert peer.read_all() == b"and now echo"
            assert run.life(peer) == [MADE, EOF, LOST]

    def test_under_a_verb_writing_and_a_second_verb_are_errors(self) -> None:
        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.echo()
                with pytest.raises(RuntimeError):
                    transport.write(b"mine")
                with pytest.raises(RuntimeError):
                    transport.writelines([b"mine"])
                with pytest.raises(RuntimeError):
                    transport.write_eof()
                for verb in (transport.echo, transport.discard):
                    with pytest.raises(ValueError, match="under echo"):
                        verb()
                self.note("all refused")

        with self.serving(Tries) as run:
            peer = run.play("send 10; read 10; shutdown-write; read-eof")
            assert run.life(peer) == [MADE, ("note", "all refused"), LOST]

    def test_a_verb_after_close_or_write_eof_is_an_error(self) -> None:
        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write_eof()
                with pytest.raises(ValueError, match="EOF"):
                    transport.echo()
                transport.close()
                with pytest.raises(ValueError, match="closing"):
                    transport.discard()
                self.note("all refused")

        with self.serving(Tries) as run:
            peer = run.connect()
            peer.read_end()
            assert run.life(peer) == [MADE, ("note", "all refused"), LOST]

    def test_close_and_abort_still_work_under_a_verb(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        with self.serving(Recorder) as run:
            for end in ("close", "abort"):
                peer = run.connect()
                transport = run.protocol(peer).transport
                run.call(transport.echo)
                peer.send(b"x")
                peer.read(1)
                run.call(getattr(transport, end))
                peer.read_end()
                assert run.life(peer) == [MADE, LOST]

    def test_a_reset_under_a_verb_reaches_connection_lost(self) -> None:
        class Hands(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.echo()

        with self.serving(Hands) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read(1)
            peer.reset()
            assert run.life(peer) == [MADE, lost("ConnectionResetError")]

    def test_bytes_moved_by_a_verb_are_counted(self) -> None:
        class Counts(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.echo()

            def connection_lost(self, exc: BaseException | None) -> None:
                self.note(self.transport.get_extra_info("bytes"))
                super().connection_lost(exc)

        with self.serving(Counts) as run:
            peer = run.play("send 12345; read 12345; shutdown-write; read-eof")
            assert ("note", (12345, 12345)) in run.life(peer)

    def test_a_subclass_of_echo_hears_of_coming_and_going_alone(self) -> None:
        class Watched(muxcore.Echo, Recorder):
            pass

        with self.serving(Watched) as run:
            peer = run.play("send 10; read 10; shutdown-write; read-eof")
            assert run.life(peer) == [MADE, LOST]

    def test_a_relay_is_refused_by_name_where_the_engine_has_none(self) -> None:
        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                if "relay" not in self.capabilities:
                    with pytest.raises(muxcore.CapabilityMissing, match="relay"):
                        transport.relay("127.0.0.1:1")
                transport.close()

            capabilities = self.capabilities

        with self.serving(Tries) as run:
            peer = run.connect()
            peer.read_end()
            assert run.life(peer) == [MADE, LOST]
