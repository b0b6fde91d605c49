"""A close with input that nobody read: what was written before it arrives all the same.

close(2) answers unread input with a reset, and a reset that overtakes the last bytes takes them
from the peer (RFC 1122, 4.2.2.13).
"""

from __future__ import annotations

from typing import Any

from muxcore.limits import Limits
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import LOST, MADE, Recorder
from muxcore.testing.suite import EngineSuite, eventually

MIB = 1 << 20


class Lingering(EngineSuite):
    def test_an_answer_arrives_although_the_question_was_not_read_to_its_end(self) -> None:
        class Answers(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(b"too long")
                self.transport.close()

        with self.serving(Answers, limits=Limits(read_chunk=1000)) as run:
            for _ in range(5):
                peer = run.connect()
                peer.send(50_000)
                assert peer.read_all() == b"too long"
                assert run.life(peer) == [MADE, LOST]
            eventually(lambda: run.server.stats().open == 0, "all have left")

    def test_input_that_comes_while_a_close_still_sends_does_not_cut_it_short(self) -> None:
        self.needs("flow_control")

        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(pattern(2 * MIB))
                transport.close()

        with self.serving(Closes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.send(20_000)
            assert peer.read_all() == pattern(2 * MIB)
            assert run.life(peer) == [MADE, LOST]

    def test_what_a_paused_connection_wrote_arrives_when_it_is_closed(self) -> None:
        self.needs("flow_control", "threadsafe_calls")

        class Pauses(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        with self.serving(Pauses) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            peer.send(20_000)
            run.call(int)  # a turn, in which nobody reads them

            def end() -> None:
                transport.write(b"goodbye")
                transport.close()

            run.call(end)
            assert peer.read_all() == b"goodbye"
            assert run.life(peer) == [MADE, LOST]

    def test_the_end_of_a_server_with_unread_input_is_no_reset(self) -> None:
        self.needs("flow_control", "threadsafe_calls")

        class Pauses(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"hello")
                transport.pause_reading()

        with self.serving(Pauses) as run:
            peer = run.connect()
            run.wait_for(MADE, peer)
            peer.send(20_000)
            assert run.server.stop() is True
            assert peer.read_all() == b"hello"
            assert run.life(peer) == [MADE, LOST]
