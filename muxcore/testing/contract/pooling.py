"""A relay to a pool: one upstream is tried after another, and each is told of its clients' ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import muxcore
from muxcore.testing.contract.relaying import relays
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.recorder import LOST, MADE, Recorder, lost
from muxcore.testing.suite import EngineSuite, Run, eventually
from muxcore.testing.upstream import Silent, Upstream, refusing


class Pooling(EngineSuite):
    def test_the_next_upstream_of_a_pool_is_joined_where_one_refuses(self) -> None:
        self.needs("relay")
        with refusing() as dead, Upstream() as upstream:
            pool = muxcore.Pool(dead, upstream.address)
            with self.serving(relays(pool, first=b"first ", back=b"back ")) as run:
                for _ in range(3):  # whosever turn it is
                    client = run.connect()
                    client.send(b"hello")
                    there = run.accept(upstream)
                    assert there.read(11) == b"first hello"
                    there.send(b"hello")
                    assert client.read(10) == b"back hello"
                    there.close()
                    client.read_eof()
                    client.close()
                    assert run.life(client) == [MADE, LOST]

    def test_the_next_upstream_of_a_pool_is_joined_where_one_does_not_answer(self) -> None:
        self.needs("relay")
        with Silent() as silent, Upstream() as upstream:
            pool = muxcore.Pool(silent.address, upstream.address)
            with self.serving(relays(pool, timeout=0.1)) as run:
                for _ in range(2):
                    client = run.connect()
                    there = run.accept(upstream)
                    there.send(b"here")
                    assert client.read(4) == b"here"
                    there.close()
                    client.read_eof()

    def test_where_no_upstream_of_a_pool_can_be_had_the_client_hears_why_of_each(self) -> None:
        self.needs("relay")
        with refusing() as one, refusing() as other, Silent() as silent:
            pool = muxcore.Pool(one, other, silent.address, connect_timeout=0.1)
            with self.serving(self._telling(pool)) as run:
                client = run.connect()
                client.read_end()
                made, (_, reasons), end = run.life(client)
                assert (made, end) == (MADE, lost("NoUpstream"))
                assert {where for where, _ in reasons} == {one, other, silent.address}
                assert all("refused" in why for where, why in reasons if where != silent.address)
                assert all("0.1 s" in why for where, why in reasons if where == silent.address)

    def test_three_upstreams_of_a_pool_are_tried_for_one_client(self) -> None:
        self.needs("relay")
        with contextlib.ExitStack() as stack:
            pool = muxcore.Pool(*(stack.enter_context(refusing()) for _ in range(4)))
            with self.serving(self._telling(pool)) as run:
                client = run.connect()
                client.read_end()
                _, (_, reasons), _ = run.life(client)
                assert len(reasons) == 3

    def _telling(self, pool: muxcore.Pool) -> type[Recorder]:
        """A protocol that relays to the pool, and tells why there was nobody."""

        class Tells(relays(pool)):  # type: ignore[misc]
            def connection_lost(self, exc: BaseException | None) -> None:
                assert isinstance(exc, muxcore.NoUpstream)
                self.note(exc.reasons)
                super().connection_lost(exc)

        return Tells

    # -- who is counted

    @contextlib.contextmanager
    def _counted(self, service: Any = relays) -> Iterator[tuple[Run, Peer, Peer]]:
        """A client that is joined with a pool's upstream, and counted there; at the end no more."""
        with Upstream() as upstream:
            pool = muxcore.Pool(upstream.address)
            stats = pool.stats
            with self.serving(service(pool)) as run:
                client = run.connect()
                there = run.accept(upstream)
                there.send(b"x")
                client.read(1)
                assert (stats()[upstream.address].active, stats()[upstream.address].total) == (1, 1)
                yield run, client, there
                eventually(lambda: stats()[upstream.address].active == 0, "it is still counted")
            assert stats()[upstream.address].active == 0

    def test_a_pool_counts_no_client_that_has_gone(self) -> None:
        self.needs("relay", "shared_state")
        with self._counted() as (run, client, there):
            client.close()
            there.read_eof()
            there.close()
            assert run.life(client) == [MADE, LOST]

    def test_a_pool_counts_no_client_whose_upstream_has_gone(self) -> None:
        self.needs("relay", "shared_state")
        with self._counted() as (run, client, there):
            there.close()
            client.read_eof()
            client.close()
            assert run.life(client) == [MADE, LOST]

    def test_a_pool_counts_no_client_whose_protocol_does_not_hear_of_its_end(self) -> None:
        self.needs("relay", "shared_state")

        def deaf(pool: muxcore.Pool) -> type:
            class Deaf:
                def connection_made(self, transport: Any) -> None:
                    transport.relay(pool)

            return Deaf

        with self._counted(deaf) as (_, client, there):
            client.close()
            there.read_eof()
            there.close()

    def test_a_pool_counts_no_client_that_is_reset(self) -> None:
        self.needs("relay", "shared_state")
        with self._counted() as (_, client, there):
            client.reset()
            there.read_reset()

    def test_a_pool_counts_no_client_whose_upstream_is_reset(self) -> None:
        self.needs("relay", "shared_state")
        with self._counted() as (_, client, there):
            there.reset()
            client.read_reset()

    def test_a_pool_counts_no_client_that_is_closed_or_aborted(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        for end in ("close", "abort"):
            with self._counted() as (run, client, there):
                run.call(getattr(run.protocol(client).transport, end))
                there.read_eof()
                client.read_eof()

    def test_a_pool_counts_no_client_of_a_server_that_has_ended(self) -> None:
        self.needs("relay", "shared_state")
        with self._counted() as (run, client, there):
            assert run.server.stop() is True
            client.read_eof()
            there.read_eof()

    def test_a_pool_counts_no_client_that_ends_before_it_is_joined(self) -> None:
        self.needs("relay", "shared_state", "threadsafe_calls")
        with Silent() as silent:
            pool = muxcore.Pool(silent.address)
            with self.serving(relays(pool)) as run:
                for end in ("close", "abort"):
                    client = run.connect()
                    transport = run.protocol(client).transport
                    assert pool.stats()[silent.address].active == 1
                    run.call(getattr(transport, end))
                    client.read_end()
                    assert run.life(client) == [MADE, LOST]
                    eventually(lambda: run.server.stats().outgoing == 0, "it is still searched for")
                    assert pool.stats()[silent.address].active == 0

    def test_a_pool_counts_no_client_that_is_reset_before_it_is_joined(self) -> None:
        self.needs("relay", "shared_state", "hears_resets")
        with Silent() as silent:
            pool = muxcore.Pool(silent.address)
            with self.serving(relays(pool)) as run:
                client = run.connect()
                run.wait_for(MADE, client)
                client.reset()
                assert run.life(client) == [MADE, lost("ConnectionResetError")]
                eventually(lambda: run.server.stats().outgoing == 0, "it is still searched for")
                assert pool.stats()[silent.address].active == 0

    def test_the_end_of_the_server_ends_a_search_in_a_pool(self) -> None:
        self.needs("relay")
        with Silent() as silent:
            pool = muxcore.Pool(silent.address)
            with self.serving(relays(pool)) as run:
                client = run.connect()
                run.wait_for(MADE, client)
                run.server.stop()
                client.read_end()
                assert run.life(client) == [MADE, lost("ConnectionAbortedError")]
            assert pool.stats()[silent.address].active == 0
            assert pool.stats()[silent.address].failed == 0

    def test_a_client_beyond_a_pools_cap_waits_for_a_place_where_there_is_a_queue(self) -> None:
        self.needs("relay", "shared_state", "timers")
        with Upstream() as upstream:
            pool = muxcore.Pool(upstream.address, max_active=1, queue=1, queue_timeout=60)
            with self.serving(relays(pool, first=b"first ")) as run:
                first = run.connect()
                there = run.accept(upstream)
                assert there.read(6) == b"first "
                second = run.connect()
                eventually(lambda: pool.waiting == 1, "it does not wait")
                there.close()
                first.read_eof()
                first.close()
                there = run.accept(upstream)
                assert there.read(6) == b"first "
                there.send(b"here")
                assert second.read(4) == b"here"
                second.close()
                there.read_eof()
                there.close()
                eventually(lambda: not pool.full(), "one is still counted")

    def test_a_client_that_waited_in_vain_is_refused(self) -> None:
        self.needs("relay", "shared_state", "timers")
        with Upstream() as upstream:
            pool = muxcore.Pool(upstream.address, max_active=1, queue=1, queue_timeout=0.05)
            with self.serving(self._telling(pool)) as run:
                first = run.connect()
                run.accept(upstream)
                second = run.connect()
                second.read_end()
                assert run.life(second)[-1] == lost("NoUpstream")
                assert pool.waiting == 0
                first.close()

    def test_the_end_of_the_server_ends_the_waiting_for_a_place(self) -> None:
        self.needs("relay", "shared_state", "timers")
        with Upstream() as upstream:
            pool = muxcore.Pool(upstream.address, max_active=1, queue=1, queue_timeout=60)
            with self.serving(relays(pool)) as run:
                run.connect()
                run.accept(upstream)
                second = run.connect()
                eventually(lambda: pool.waiting == 1, "it does not wait")
                run.server.request_stop()
                second.read_end()
            assert pool.waiting == 0
            assert pool.stats()[upstream.address].active == 0

    def test_a_key_says_which_upstream_of_a_pool_it_is(self) -> None:
        self.needs("relay")

        class ByTenant(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.relay(pool, key=data, first=data)

        with Upstream() as one, Upstream() as other:
            pool = muxcore.Pool(one.address, other.address, policy="source")
            homes = {}
            for number in range(50):
                key = str(number).encode()
                taken = pool.take(key=key)
                assert taken is not None
                homes[key] = taken.name
            assert set(homes.values()) == {one.address, other.address}
            with self.serving(ByTenant) as run:
                for key in [next(k for k in homes if homes[k] == u.address) for u in (one, other)]:
                    for _ in range(3):
                        client = run.connect()
                        client.send(key)
                        there = run.accept(one if homes[key] == one.address else other)
                        assert there.read(len(key)) == key
                        client.close()
                        there.read_eof()
                        there.close()

    def test_without_a_key_it_is_the_clients_address_that_says_which_upstream_it_is(self) -> None:
        self.needs("relay")
        with Upstream() as one, Upstream() as other:
            pool = muxcore.Pool(one.address, other.address, policy="source")
            with self.serving(relays(pool)) as run:
                for number in range(2, 10):
                    host = f"127.0.0.{number}"
                    its = one if pool.take(key=host.encode()) is pool.upstreams[0] else other
                    client = run.keep(Peer(_connected(run.address, host)))
                    there = run.accept(its)
                    there.send(b"here")
                    assert client.read(4) == b"here"
                    there.close()

    def test_a_client_beyond_a_pools_cap_is_refused_at_once(self) -> None:
        self.needs("relay", "shared_state")

        class Tries(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.relay(pool)
                self.note("it came back")

        with Upstream() as upstream:
            pool = muxcore.Pool(upstream.address, max_active=1)
            with self.serving(Tries) as run:
                for _ in range(2):
                    first = run.connect()
                    there = run.accept(upstream)
                    second = run.connect()
                    second.read_end()
                    note = ("note", "it came back")
                    assert run.life(second) == [MADE, note, lost("NoUpstream")]
                    there.close()
                    first.read_eof()
                    first.close()
                    assert run.life(first) == [MADE, note, LOST]
                    eventually(lambda: not pool.full(), "the first is still counted")


def _connected(where: str, host: str) -> socket.socket:
    """Connect from a certain address of this machine's."""
    to, _, port = where.rpartition(":")
    return socket.create_connection((to, int(port)), DEADLINE, source_address=(host, 0))
