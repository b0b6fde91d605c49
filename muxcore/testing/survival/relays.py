"""Relays in trouble: deadlines, caps, an upstream that dies, many pairs at once."""

from __future__ import annotations

from typing import Any

from muxcore import Limits
from muxcore.testing.contract.relaying import relays
from muxcore.testing.patience import paced
from muxcore.testing.peer import SMALL, narrow, pattern
from muxcore.testing.recorder import LOST, MADE, Recorder, lost
from muxcore.testing.suite import EngineSuite, eventually
from muxcore.testing.upstream import Silent, Upstream

_PAIRS = 50


class Relays(EngineSuite):
    def test_a_relay_is_idle_only_when_neither_direction_moves(self) -> None:
        self.needs("relay")
        limits = Limits(idle_timeout=0.4)
        for pace in paced(0.4):
            with (
                Upstream() as upstream,
                self.serving(relays(upstream.address), limits=limits) as run,
                pace,
            ):
                client = run.connect()
                there = run.accept(upstream)
                pace.step()
                for _ in range(6):  # longer than the deadline, in one direction alone
                    client.pause(0.1)
                    there.send(b"x")
                    assert client.read(1) == b"x"
                    pace.step()
                pace.end()
                client.read_end()
                there.read_end()
                assert run.life(client) == [MADE, lost("IdleTimeout")]

    def test_a_relay_whose_reader_is_slow_is_not_idle(self) -> None:
        self.needs("relay")
        limits = Limits(idle_timeout=0.4, write_high=4 << 20, write_low=0)
        for pace in paced(0.4):
            with (
                Upstream() as upstream,
                self.serving(relays(upstream.address), narrow(), limits=limits) as run,
                pace,
            ):
                client = run.connect(receive_buffer=SMALL)
                there = run.accept(upstream)
                pace.step()
                taken = 0
                while taken < 4 << 20:  # it takes that much, whatever the machine does meanwhile
                    taken += there.send_until_full(62 << 20, quiet=0.05)
                pace.step()
                for _ in range(12):  # longer than the deadline, with the upstream's side held
                    client.read(SMALL)
                    client.pause(0.05)
                    pace.step()
                pace.end()
                client.read(taken - 12 * SMALL)

    def test_the_second_direction_has_a_deadline_once_the_first_has_ended(self) -> None:
        self.needs("relay")
        limits = Limits(half_close_timeout=0.2)
        with (
            Upstream() as upstream,
            self.serving(relays(upstream.address), limits=limits) as run,
        ):
            for first in ("client", "upstream"):
                client = run.connect()
                there = run.accept(upstream)
                ends, goes_on = (client, there) if first == "client" else (there, client)
                ends.shutdown_write()
                goes_on.read_eof()
                ends.read_end()
                assert run.life(client) == [MADE, lost("HalfCloseTimeout")]

    def test_a_relay_may_end_in_order_as_soon_as_one_side_has(self) -> None:
        self.needs("relay")
        limits = Limits(half_close_timeout=0)
        with (
            Upstream() as upstream,
            self.serving(relays(upstream.address), limits=limits) as run,
        ):
            for first in ("client", "upstream"):
                client = run.connect()
                there = run.accept(upstream)
                ends, hears = (client, there) if first == "client" else (there, client)
                ends.send(pattern(100_000))
                ends.shutdown_write()
                hears.read_pattern(100_000)
                hears.read_eof()
                ends.read_eof()  # though the other side has not ended
                assert run.life(client) == [MADE, LOST]

    def test_a_relay_that_ends_in_time_hears_of_no_deadline(self) -> None:
        self.needs("relay")
        limits = Limits(half_close_timeout=30)
        with (
            Upstream() as upstream,
            self.serving(relays(upstream.address), limits=limits) as run,
        ):
            client = run.connect()
            there = run.accept(upstream)
            client.shutdown_write()
            there.read_eof()
            there.close()
            client.read_eof()
            assert run.life(client) == [MADE, LOST]

    def test_many_relays_at_once_keep_their_bytes_apart(self) -> None:
        self.needs("relay")

        class Routes(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.relay(upstream.address, first=data)

        with Upstream() as upstream, self.serving(Routes) as run:
            clients = {}
            for number in range(_PAIRS):
                client = run.connect()
                client.send(b"%03d" % number)
                clients[b"%03d" % number] = client
            for _ in range(_PAIRS):
                there = run.accept(upstream)
                client = clients[there.read(3)]
                there.send(5000)
                client.send(7000)
                assert there.read(7000) == pattern(7000)
                client.read_pattern(5000)
                client.shutdown_write()
                there.read_eof()
                there.close()
                client.read_eof()
            eventually(lambda: run.server.stats().open == 0, "a pair is left")
            assert run.server.stats().outgoing == 0

    def test_outgoing_connections_have_a_cap_of_their_own(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                for _ in range(3):
                    transport.server.connect(silent.address, lambda: Outcome(self), timeout=0.2)

        class Outcome:
            def __init__(self, asker: Recorder) -> None:
                self.asker = asker

            def connection_lost(self, exc: BaseException | None) -> None:
                self.asker.note(type(exc).__name__)

        with Silent() as silent, self.serving(Asks, limits=Limits(connections=2)) as run:
            run.connect()
            expected = ["BlockingIOError", "ConnectTimeout", "ConnectTimeout"]
            eventually(
                lambda: sorted(e[1] for e in run.events() if e[0] == "note") == expected,
                lambda: f"outcomes: {run.events()}",
            )

    def test_a_relay_holds_up_no_other_connection_of_its_protocol(self) -> None:
        self.needs("relay")

        class Splits(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.server.connect(aside.address, Answers)
                transport.relay(upstream.address)

        class Answers:
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data.upper())

        with Upstream() as upstream, Upstream() as aside, self.serving(Splits) as run:
            client = run.connect()
            there, other = run.accept(upstream), run.accept(aside)
            for _ in range(3):
                client.send(b"relayed")
                assert there.read(7) == b"relayed"
                other.send(b"answered")
                assert other.read(8) == b"ANSWERED"
            for peer in (there, other):
                peer.close()
            client.read_eof()
            client.close()
            assert run.life(client) == [MADE, LOST]

    def test_first_bytes_beyond_the_cap_of_a_write_buffer_end_both_sides(self) -> None:
        self.needs("relay")

        class Relays(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.relay(upstream.address, first=bytes(8 << 20))

        limits = Limits(write_buffer=1 << 17)
        with Upstream(narrow=True) as upstream, self.serving(Relays, limits=limits) as run:
            client = run.connect()
            client.send(b"x")
            there = run.accept(upstream)  # it does not read: all at once could be taken
            client.read_end()
            there.read_end()
            assert run.life(client) == [MADE, lost("BufferLimitExceeded")]

    def test_the_end_of_the_server_sends_what_both_sides_are_to_get(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            client.send(b"to the upstream")
            there = run.accept(upstream)
            assert there.read(15) == b"to the upstream"
            there.send(b"to the client")
            assert client.read(13) == b"to the client"
            assert run.server.stop() is True
            client.read_eof()
            there.read_eof()

    def test_an_upstream_that_dies_in_mid_stream_ends_its_own_relay_alone(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            clients: list[Any] = []
            peers: list[Any] = []
            for _ in range(2):
                clients.append(run.connect())
                peers.append(run.accept(upstream))
            clients[0].send_until_full(8 << 20)
            peers[0].reset()
            clients[0].read_end()
            clients[1].send(1000)
            peers[1].read_pattern(1000)
            kind = run.life(clients[0])[-1][1]
            assert kind in ("ConnectionResetError", "BrokenPipeError")
