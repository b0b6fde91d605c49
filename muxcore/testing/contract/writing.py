"""What is written arrives, whatever the peer does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import LOST, MADE, Recorder, data
from muxcore.testing.suite import EngineSuite

MIB = 1 << 20


class Writing(EngineSuite):
    def test_every_bytes_like_kind_arrives_in_order(self) -> None:
        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.write(b"bytes ")
                transport.write(bytearray(b"bytearray "))
                transport.write(memoryview(b"..memoryview ")[2:])
                transport.writelines([b"a", bytearray(b"list"), memoryview(b" ")])
                transport.writelines(iter([b"an ", b"iterator"]))
                transport.write(b"")
                transport.writelines([])
                transport.close()

        with self.serving(Writes) as run:
            assert run.connect().read_all() == b"bytes bytearray memoryview alist an iterator"

    def test_the_wrong_type_is_a_type_error(self) -> None:
        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                for wrong in ("text", 5, None, ["list"]):
                    with pytest.raises(TypeError):
                        transport.write(wrong)
                transport.write(b"fine")
                transport.close()

        with self.serving(Writes) as run:
            assert run.connect().read_all() == b"fine"

    def test_a_large_write_arrives_whole_at_a_slow_reader(self) -> None:
        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.write(pattern(2 * MIB))
                transport.close()

        with self.serving(Writes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.pause(0.05)  # let the kernel's buffers fill: the writes after that are partial
            peer.read_pattern(2 * MIB)
            peer.read_eof()

    def test_many_small_writes_behind_a_large_one_keep_their_order(self) -> None:
        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                whole = pattern(2 * MIB + 3000)
                transport.write(whole[: 2 * MIB])
                for at in range(2 * MIB, len(whole), 3):
                    transport.write(whole[at : at + 3])
                transport.close()

        with self.serving(Writes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.read_pattern(2 * MIB + 3000)
            peer.read_eof()

    def test_a_buffer_may_be_changed_once_write_returned(self) -> None:
        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                buffer = bytearray(pattern(2 * MIB))
                transport.write(buffer)
                transport.write(memoryview(buffer))
                buffer[:] = bytes(len(buffer))
                transport.close()

        with self.serving(Writes, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            assert peer.read_all() == pattern(2 * MIB) * 2

    def test_write_eof_leaves_the_other_direction_open(self) -> None:
        self.needs("half_close")

        class Ends(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                assert transport.can_write_eof() is True
                transport.write(b"that was all")
                transport.write_eof()
                transport.write_eof()  # once is enough

        with self.serving(Ends) as run:
            peer = run.connect()
            assert peer.read_all() == b"that was all"
            peer.send(b"still heard")
            peer.close()
            assert run.life(peer)[:2] == [MADE, data(b"still heard")]

    def test_write_eof_comes_after_all_that_was_written(self) -> None:
        self.needs("half_close")

        class Ends(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.write(pattern(2 * MIB))
                transport.write_eof()

        with self.serving(Ends, narrow()) as run:
            peer = run.connect(receive_buffer=SMALL)
            peer.pause(0.05)
            assert peer.read_all() == pattern(2 * MIB)

    def test_writing_after_write_eof_is_an_error(self) -> None:
        self.needs("half_close")

        class Ends(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write_eof()
                with pytest.raises(RuntimeError):
                    transport.write(b"too late")
                transport.close()

        with self.serving(Ends) as run:
            peer = run.connect()
            peer.read_eof()
            assert run.life(peer) == [MADE, LOST]

    def test_writing_after_close_is_dropped_in_silence(self) -> None:
        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"before")
                transport.close()
                for _ in range(20):
                    transport.write(b"after")
                with pytest.raises(TypeError):
                    transport.write("text")

        with self.serving(Closes) as run:
            peer = run.connect()
            assert peer.read_all() == b"before"
            assert run.life(peer) == [MADE, LOST]

    def test_writing_in_connection_lost_is_dropped_in_silence(self) -> None:
        class Late(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                self.transport.write(b"late")
                self.transport.close()
                self.transport.abort()
                super().connection_lost(exc)

        with self.serving(Late) as run:
            peer = run.connect()
            peer.shutdown_write()
            peer.read_eof()
            assert run.life(peer)[-1] == LOST

    def test_a_connection_may_write_to_another(self) -> None:
        self.needs("shared_state")
        peers: list[Any] = []

        class Crosses(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                peers.append(transport)

            def data_received(self, data: bytes) -> None:
                for transport in peers:
                    if transport is not self.transport:
                        transport.write(data)

        with self.serving(Crosses) as run:
            one, two = run.connect(), run.connect()
            run.wait_for(MADE, one)
            run.wait_for(MADE, two)
            one.send(b"to two")
            assert two.read(6) == b"to two"
            two.send(b"to one")
            assert one.read(6) == b"to one"

    def test_write_eof_on_a_connection_that_was_reset_fails_it_and_raises_nothing(self) -> None:
        self.needs("flow_control", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peer = run.connect()
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)  # else it may hear the reset by reading
            peer.reset()
            run.call(transport.write_eof)
            (callback, why) = run.life(peer)[-1]
            assert callback == "connection_lost"
            assert why is not None
