"""How a relay begins: what is joined, what goes first, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import muxcore
from muxcore.testing.contract.relaying import MIB, relays
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import EOF, LOST, MADE, Journaled, Recorder, data, lost
from muxcore.testing.suite import EngineSuite, eventually, meanwhile
from muxcore.testing.upstream import Silent, Upstream, refusing


class Joining(EngineSuite):
    def test_first_and_back_go_before_all_others(self) -> None:
        self.needs("relay")

        class Routes(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.relay(upstream.address, first=data, back=b"welcome ", timeout=5)

        with Upstream() as upstream, self.serving(Routes) as run:
            client = run.connect()
            client.send(b"hello ")
            run.wait_for(data(b"hello "), client)
            client.send(b"world")
            there = run.accept(upstream)
            assert there.read(11) == b"hello world"
            there.send(b"back")
            assert client.read(12) == b"welcome back"
            client.reset()

    def test_earlier_writes_go_before_back(self) -> None:
        self.needs("relay")

        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(pattern(MIB))
                transport.relay(upstream.address, back=b"back")

        with Upstream() as upstream, self.serving(Writes, narrow()) as run:
            client = run.connect(receive_buffer=SMALL)
            client.read_pattern(MIB)
            there = run.accept(upstream)
            there.send(b"more")
            assert client.read(8) == b"backmore"
            client.reset()

    def test_a_backlog_from_before_the_join_holds_up_the_other_side(self) -> None:
        self.needs("relay", "flow_control")

        class Writes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(pattern(MIB))
                transport.relay(upstream.address)

        with Upstream() as upstream, self.serving(Writes, narrow()) as run:
            client = run.connect(receive_buffer=SMALL)
            taken = run.accept(upstream).send_until_full(62 * MIB)
            assert taken < 32 * MIB
            assert run.server.stats().bytes_in < MIB
            client.read_pattern(MIB)
            client.read(taken)

    def test_what_came_before_the_join_is_not_lost(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            with meanwhile(functools.partial(client.send, 2 * MIB)):
                run.accept(upstream).read_pattern(2 * MIB)
            client.close()

    def test_an_upstream_that_refuses_loses_the_connection(self) -> None:
        self.needs("relay")
        with refusing() as address, self.serving(relays(address)) as run:
            client = run.connect()
            client.read_end()
            assert run.life(client) == [MADE, lost("ConnectionRefusedError")]

    def test_an_upstream_that_does_not_answer_loses_it_in_time(self) -> None:
        self.needs("relay")
        with Silent() as silent, self.serving(relays(silent.address, timeout=0.1)) as run:
            client = run.connect()
            client.read_end()
            assert run.life(client) == [MADE, lost("ConnectTimeout")]

    def test_an_address_that_is_malformed_is_an_error_and_nothing_has_begun(self) -> None:
        self.needs("relay")

        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                with pytest.raises(muxcore.AddressError):
                    transport.relay("nowhere")
                with pytest.raises(TypeError):
                    transport.relay(None)
                with pytest.raises(ValueError, match="itself"):
                    transport.relay(transport)
                transport.echo()

        with self.serving(Tries) as run:
            run.play("send 10; read 10; shutdown-write; read-eof")

    def test_under_a_relay_writing_and_another_verb_are_errors(self) -> None:
        self.needs("relay")

        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.relay(upstream.address)
                with pytest.raises(RuntimeError):
                    transport.write(b"mine")
                with pytest.raises(RuntimeError):
                    transport.write_eof()
                for verb in (transport.echo, lambda: transport.relay(upstream.address)):
                    with pytest.raises(ValueError, match="under relay"):
                        verb()
                self.note("all refused")

        with Upstream() as upstream, self.serving(Tries) as run:
            client = run.connect()
            there = run.accept(upstream)
            there.send(b"on it goes")
            assert client.read(10) == b"on it goes"
            client.close()
            there.close()
            assert run.life(client) == [MADE, ("note", "all refused"), LOST]

    def test_an_eof_heard_before_is_passed_on(self) -> None:
        self.needs("relay", "half_close")

        class Late(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                self.transport.relay(upstream.address, first=b"it said: bye")
                return True

        with Upstream() as upstream, self.serving(Late) as run:
            client = run.connect()
            client.shutdown_write()
            there = run.accept(upstream)
            assert there.read_all() == b"it said: bye"
            there.send(b"so long")
            there.close()
            assert client.read_all() == b"so long"
            assert run.life(client) == [MADE, EOF, LOST]

    def test_only_two_open_connections_of_one_server_are_joined(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with self.serving(Recorder) as run:
            peers = [run.connect() for _ in range(5)]
            first, second, *unfit = [run.protocol(peer).transport for peer in peers]
            with self.serving(Recorder) as elsewhere:
                foreign = elsewhere.protocol(elsewhere.connect()).transport
                reasons = ["closing", "echo", "EOF"]

                def join() -> None:
                    for transport, verb in zip(unfit, ("close", "echo", "write_eof"), strict=True):
                        getattr(transport, verb)()
                    with pytest.raises(ValueError, match="another server"):
                        first.relay(foreign)
                    for transport, why in zip(unfit, reasons, strict=True):
                        with pytest.raises(ValueError, match=why):
                            first.relay(transport)
                        with pytest.raises(ValueError, match=why):
                            transport.relay(first)
                    first.relay(second)  # and none of that has begun anything

                run.call(join)
            peers[0].send(b"through")
            assert peers[1].read(7) == b"through"

    def test_close_while_it_connects_ends_that_too(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with Silent() as silent, self.serving(relays(silent.address)) as run:
            client = run.connect()
            run.call(run.protocol(client).transport.close)
            client.read_eof()
            assert run.life(client) == [MADE, LOST]
            eventually(lambda: run.server.stats().outgoing == 0, "it is still on its way")

    def test_a_protocol_that_takes_buffers_is_joined_as_well(self) -> None:
        self.needs("relay")

        class Buffered(Journaled):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                self.buffer = bytearray(10)

            def get_buffer(self, hint: int) -> bytearray:
                return self.buffer

            def buffer_updated(self, size: int) -> None:
                self.transport.relay(upstream.address, first=self.buffer[:size])

        with Upstream() as upstream, self.serving(Buffered) as run:
            client = run.connect()
            client.send(1000)
            there = run.accept(upstream)
            there.read_pattern(1000)
            client.close()
            there.read_eof()

    def test_what_a_protocol_connects_to_itself_is_joined(self) -> None:
        self.needs("relay")

        class Connects(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()
                transport.server.connect(upstream.address, lambda: Joins(transport))

        class Joins:
            def __init__(self, client: Any) -> None:
                self.client = client

            def connection_made(self, transport: Any) -> None:
                transport.relay(self.client, first=b"to the client ", back=b"from the client ")

        with Upstream() as upstream, self.serving(Connects) as run:
            client = run.connect()
            client.send(b"hello")
            there = run.accept(upstream)
            assert there.read(21) == b"from the client hello"
            there.send(b"hello")
            assert client.read(19) == b"to the client hello"
            there.close()
            client.read_eof()
            client.close()
            assert run.life(client) == [MADE, LOST]

    def test_a_client_that_leaves_while_it_connects_is_not_forgotten(self) -> None:
        self.needs("relay")
        with Silent() as silent, self.serving(relays(silent.address, timeout=0.2)) as run:
            gone, reset = run.connect(), run.connect()
            for peer in (gone, reset):
                run.wait_for(MADE, peer)
            gone.close()
            reset.reset()
            for peer in (gone, reset):
                end = run.life(peer)[-1]
                assert end in (lost("ConnectTimeout"), lost("ConnectionResetError"))
            eventually(lambda: run.server.stats().outgoing == 0, "it is still on its way")

    def test_the_end_of_the_server_ends_what_is_not_joined_yet(self) -> None:
        self.needs("relay")
        with Silent() as silent, self.serving(relays(silent.address)) as run:
            client = run.connect()
            run.wait_for(MADE, client)
            run.server.stop()
            client.read_end()
            assert run.life(client) == [MADE, lost("ConnectionAbortedError")]
