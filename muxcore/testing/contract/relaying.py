"""Under a relay: two connections whose bytes go to each other, until both directions have ended."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muxcore import Limits, Pool
from muxcore.testing.peer import SMALL, Peer, narrow
from muxcore.testing.recorder import LOST, MADE, Recorder, lost
from muxcore.testing.suite import EngineSuite, Run, eventually, meanwhile
from muxcore.testing.upstream import Upstream

MIB = 1 << 20
_BULK = 8 * MIB  # more than the kernel holds: tcp(7), tcp_wmem
_QUEUES = Limits(write_high=2 * _BULK)


class Relaying(EngineSuite):
    def test_bytes_go_both_ways(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            client.send(b"ping")
            there = run.accept(upstream)
            assert there.read(4) == b"ping"
            there.send(b"pong")
            assert client.read(4) == b"pong"
            client.close()
            there.read_eof()
            there.close()
            assert run.life(client) == [MADE, LOST]

    def test_a_witness_hears_of_the_end_of_a_pair_that_has_no_protocol(self) -> None:
        self.needs("relay")

        class Unseen(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.add_witness(self)
                transport.set_protocol(None)
                transport.relay(upstream.address)

        with Upstream() as upstream, self.serving(Unseen) as run:
            client = run.connect()
            there = run.accept(upstream)
            there.send(b"hello")
            assert client.read(5) == b"hello"
            there.close()
            client.close()
            run.life(client)
            assert run.events(client) == [MADE, LOST]

    def test_the_clients_half_close_leaves_the_other_direction_open(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            client.send(b"last words")
            client.shutdown_write()
            there = run.accept(upstream)
            assert there.read_all() == b"last words"
            there.send(b"the answer")
            assert client.read(10) == b"the answer"
            there.close()
            client.read_eof()
            assert run.life(client) == [MADE, LOST]

    def test_the_upstreams_half_close_leaves_the_other_direction_open(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            there.send(b"that was all")
            there.shutdown_write()
            assert client.read_all() == b"that was all"
            client.send(b"thanks")
            assert there.read(6) == b"thanks"
            client.close()
            there.read_eof()
            assert run.life(client) == [MADE, LOST]

    def test_an_eof_comes_after_the_whole_of_what_was_sent(self) -> None:
        self.needs("relay")
        with (
            Upstream(narrow=True) as upstream,
            self.serving(relays(upstream.address), limits=_QUEUES) as run,
        ):
            client = run.connect()
            there = run.accept(upstream)
            self._ends_with_a_queue(run, client, there)
            there.close()
            assert run.life(client) == [MADE, LOST]

    def test_the_tail_of_a_direction_arrives_although_the_other_has_ended(self) -> None:
        self.needs("relay")
        with (
            Upstream() as upstream,
            self.serving(relays(upstream.address), narrow(), limits=_QUEUES) as run,
        ):
            client = run.connect(receive_buffer=SMALL)
            there = run.accept(upstream)
            client.shutdown_write()
            there.read_eof()
            self._ends_with_a_queue(run, there, client)
            assert run.life(client) == [MADE, LOST]

    def _ends_with_a_queue(self, run: Run, sender: Peer, reader: Peer) -> None:
        sender.send(_BULK)
        sender.shutdown_write()
        eventually(lambda: run.server.stats().bytes_in == _BULK, "not all was received")
        reader.pause(0.05)  # the EOF comes, while much of it is queued
        reader.read_pattern(_BULK)
        reader.read_eof()

    def test_a_reset_by_the_client_passes_to_the_upstream(self) -> None:
        self.needs("relay")
        with self._pair() as (run, client, there):
            client.reset()
            there.read_reset()
            assert run.life(client) == [MADE, lost("ConnectionResetError")]

    def test_a_reset_by_the_upstream_passes_to_the_client(self) -> None:
        self.needs("relay")
        with self._pair() as (run, client, there):
            there.reset()
            client.read_reset()
            assert run.life(client) == [MADE, lost("ConnectionResetError")]

    @contextmanager
    def _pair(self) -> Iterator[tuple[Run, Peer, Peer]]:
        """A client that is joined with an upstream, which has had a byte of it."""
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            client.send(b"x")
            there = run.accept(upstream)
            there.read(1)
            yield run, client, there

    def test_an_upstream_that_reads_slowly_holds_up_the_client_and_loses_nothing(self) -> None:
        self.needs("relay")
        with Upstream(narrow=True) as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            self._holds_up(run, client, run.accept(upstream))
            assert run.life(client) == [MADE, LOST]

    def test_a_client_that_reads_slowly_holds_up_the_upstream_and_loses_nothing(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address), narrow()) as run:
            client = run.connect(receive_buffer=SMALL)
            self._holds_up(run, run.accept(upstream), client)
            assert run.life(client) == [MADE, LOST]

    def _holds_up(self, run: Run, sender: Peer, reader: Peer) -> None:
        taken = sender.send_until_full(62 * MIB)
        assert taken < 32 * MIB  # the rest waits on the sender's side
        stats = run.server.stats()
        assert stats.bytes_in - stats.bytes_out < MIB  # high water, and what one receive brings
        for _ in range(50):  # the other direction goes on
            reader.send(b"meanwhile")
            assert sender.read(9) == b"meanwhile"
        sender.shutdown_write()
        assert len(reader.read_all()) == taken
        reader.close()

    def test_megabytes_both_ways_at_once_arrive_byte_for_byte(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            steps = itertools.product(("send", "read_pattern"), (client, there))
            with meanwhile(*(functools.partial(getattr(p, step), _BULK) for step, p in steps)):
                pass
            for peer in (client, there):
                peer.shutdown_write()
            for peer in (client, there):
                peer.read_eof()
            assert run.life(client) == [MADE, LOST]
            assert run.server.stats().bytes_in == 2 * _BULK

    def test_a_reset_after_a_half_close_passes_to_the_other_side(self) -> None:
        self.needs("relay")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            client.shutdown_write()
            there = run.accept(upstream)
            there.read_eof()
            there.reset()
            client.read_reset()
            assert run.life(client) == [MADE, lost("ConnectionResetError")]

    def test_two_clients_are_joined_and_each_hears_its_end_once(self) -> None:
        self.needs("relay", "shared_state")
        with self.serving(pairs()) as run:
            left, right = run.connect(), run.connect()
            left.send(100_000)
            right.read_pattern(100_000)
            right.send(100_000)
            left.read_pattern(100_000)
            left.close()
            right.read_eof()
            right.close()
            for peer in (left, right):
                assert run.life(peer) == [MADE, LOST]

    def test_a_reset_of_one_client_is_heard_on_both_sides(self) -> None:
        self.needs("relay", "shared_state")
        kind = "ConnectionResetError"

        class Tells(pairs()):  # type: ignore[misc]
            def connection_lost(self, exc: BaseException | None) -> None:
                assert exc is not None
                self.note(type(exc.__cause__).__name__)
                super().connection_lost(exc)

        with self.serving(Tells) as run:
            left, right = run.connect(), run.connect()
            left.send(1)
            right.read(1)
            left.reset()
            right.read_reset()
            assert run.life(left) == [MADE, ("note", "NoneType"), lost(kind)]
            assert run.life(right) == [MADE, ("note", kind), lost(kind)]

    def test_close_sends_first_what_is_queued_for_the_other_side(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with Upstream(narrow=True) as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            client.send_until_full(62 * MIB)
            run.call(run.protocol(client).transport.close)
            assert len(there.read_all()) == run.server.stats().bytes_in
            assert run.life(client) == [MADE, LOST]

    def test_abort_ends_both_sides_at_once(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with Upstream(narrow=True) as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            client.send_until_full(62 * MIB)
            run.call(run.protocol(client).transport.abort)
            assert run.life(client) == [MADE, LOST]
            there.read_end()
            client.read_end()

    def test_either_of_two_clients_may_be_closed_or_aborted(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with self.serving(pairs()) as run:
            for end in ("close", "abort"):
                for ended in range(2):
                    peers = [run.connect(), run.connect()]
                    peers[0].send(1)
                    peers[1].read(1)
                    run.call(getattr(run.protocol(peers[ended]).transport, end))
                    for peer in peers:
                        peer.read_eof()
                        assert run.life(peer) == [MADE, LOST]

    def test_another_protocol_hears_the_end_and_nothing_else(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")

        class Successor(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                self.note("mine")

        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            transport = run.protocol(client).transport
            successor = Successor(run.journal)
            successor.key = run.journal.key(transport)
            run.call(transport.set_protocol, successor)
            client.send(b"still relayed")
            assert there.read(13) == b"still relayed"
            there.close()
            client.read_eof()
            client.close()
            assert run.wait_for(("note", "mine"), client) == [MADE, ("note", "mine")]

    def test_the_bytes_of_each_direction_are_counted(self) -> None:
        self.needs("relay")

        class Counts(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.relay(upstream.address, first=b"12345")

            def connection_lost(self, exc: BaseException | None) -> None:
                self.note(self.transport.get_extra_info("bytes"))
                super().connection_lost(exc)

        with Upstream() as upstream, self.serving(Counts) as run:
            client = run.connect()
            client.send(b"6789")
            there = run.accept(upstream)
            assert there.read(9) == b"123456789"
            there.send(b"ok")
            there.close()
            assert client.read_all() == b"ok"
            client.close()
            assert run.life(client) == [MADE, ("note", (4, 2)), LOST]

    def test_a_reset_behind_an_eof_is_passed_on_as_a_reset(self) -> None:
        self.needs("relay", "threadsafe_calls")
        with Upstream() as upstream, self.serving(relays(upstream.address)) as run:
            client = run.connect()
            there = run.accept(upstream)
            there.send(b"part")
            assert client.read(4) == b"part"
            with run.held():  # the EOF cannot be passed on: the other side is reset by then
                client.shutdown_write()
                there.reset()
            client.read_reset()


def relays(where: str | Pool, **options: Any) -> type[Recorder]:
    """Return a protocol that relays its connection to ``where`` at once."""

    class Relays(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.relay(where, **options)

    return Relays


def pairs() -> type[Recorder]:
    """Return a protocol that joins every second connection with the one before it."""
    waiting: list[Any] = []

    class Pairs(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if waiting:
                transport.relay(waiting.pop())
            else:
                transport.pause_reading()
                waiting.append(transport)

    return Pairs
