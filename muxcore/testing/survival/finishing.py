"""A drain as connections see it: what they hear, who is idle, pairs; signals that end nobody."""

from __future__ import annotations

import signal
import threading
from typing import Any

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import DEADLINE, SMALL, narrow
from muxcore.testing.recorder import LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import eventually
from muxcore.testing.survival.clients import EchoWriter
from muxcore.testing.survival.draining import (
    LONG,
    TOLD,
    DrainSuite,
    Hears,
    drained,
    nobody_listens,
    works,
)
from muxcore.testing.upstream import Upstream


class Rests(Hears):
    """Waits for something other than its peer."""

    def draining(self) -> bool:
        super().draining()
        return True


class Knows(Hears):
    """Has a word of its own for something else."""

    draining = False  # type: ignore[assignment]


class Pours(Recorder):
    """Sends more than the kernel takes for a client that does not read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(bytes(2 << 20))


class Opens(Hears):
    """Has a connection of its own."""

    where = ""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.server.connect(self.where, Quiet)


class Quiet:
    """What it opens."""

    def connection_made(self, transport: Any) -> None: ...


class Finishing(DrainSuite):
    # -- what protocols hear

    def test_each_connection_hears_once_that_a_drain_begins(self) -> None:
        self.needs("drain")
        limits = Limits(drain_timeout=600, drain_delay=600)
        with self.serving(Hears, limits=limits) as run:
            (early,) = self.working(run)
            run.server.request_drain()
            run.wait_for(TOLD, early)
            late = run.connect()
            run.wait_for(TOLD, late)
            run.server.request_drain()
            for peer in (early, late):
                works(peer)
                peer.close()
            x = data(b"x")
            assert run.life(early)[:4] == [MADE, x, TOLD, x]
            assert run.life(late)[:3] == [MADE, TOLD, x]
            assert run.events(early).count(TOLD) == run.events(late).count(TOLD) == 1

    def test_bytes_that_come_while_a_drain_is_told_are_not_lost(self) -> None:
        self.needs("drain")
        with self.serving(Hears, limits=LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            for _ in range(500):
                works(peer)
            run.wait_for(TOLD, peer)
            works(peer)

    def test_a_protocol_may_close_when_it_hears_of_a_drain(self) -> None:
        self.needs("drain")

        class Closes(Hears):
            def draining(self) -> None:
                super().draining()
                self.transport.write(b"goodbye")
                self.transport.close()

        with self.serving(Closes, limits=LONG) as run:
            peers = self.working(run, 3)
            with drained(run):
                for peer in peers:
                    assert peer.read_all() == b"goodbye"
            for peer in peers:
                assert run.life(peer)[-2:] == [TOLD, LOST]

    def test_an_error_in_draining_closes_that_connection_alone(self) -> None:
        self.needs("drain", "shared_state")  # they tell which comes first

        class Fails(Hears):
            has_failed = False

            def draining(self) -> None:
                super().draining()
                if not Fails.has_failed:
                    Fails.has_failed = True
                    raise LookupError

        limits = Limits(drain_timeout=600, drain_delay=600)
        with self.serving(Fails, limits=limits) as run:
            (failing,) = self.working(run)
            run.server.request_drain()
            failing.read_end()
            assert run.life(failing)[-2:] == [TOLD, lost("LookupError")]
            other = run.connect()
            run.wait_for(TOLD, other)
            works(other)

    def test_a_drain_is_not_told_under_a_verb(self) -> None:
        self.needs("drain")

        class Hands(Hears):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data)
                self.transport.echo()

        with self.serving(Hands, limits=LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            eventually(lambda: nobody_listens(run), "it accepts")
            works(peer)
            peer.close()
            assert run.life(peer) == [MADE, LOST]

    def test_an_attribute_of_that_name_is_left_alone(self) -> None:
        self.needs("drain")
        with self.serving(Knows, limits=LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            eventually(lambda: nobody_listens(run), "it accepts")
            works(peer)

    # -- who is idle

    def test_an_idle_client_is_ended_where_that_is_asked_for(self) -> None:
        self.needs("drain")
        limits = Limits(drain_timeout=600, drain_idle=0.02)
        for service in (Hears, muxcore.Echo):
            with self.program(service, limits=limits) as program:
                (peer,) = self.working(program)
                program.signal(signal.SIGTERM)
                peer.read_eof()
                assert program.wait() == 0

    def test_what_is_not_sent_yet_makes_nobody_idle(self) -> None:
        self.needs("drain")
        limits = Limits(drain_timeout=600, drain_idle=0.02)
        with self.program(Pours, narrow(), limits=limits) as program:
            slow, other = program.connect(receive_buffer=SMALL), program.connect()
            other.read(2 << 20)
            program.signal(signal.SIGTERM)
            other.read_eof()  # it is idle
            assert slow.read(2 << 20) == bytes(2 << 20)
            slow.read_eof()
            assert program.wait() == 0

    def test_a_protocol_may_ask_not_to_be_taken_for_idle(self) -> None:
        self.needs("drain")
        limits = Limits(drain_timeout=600, drain_idle=0.02)

        class Either(Rests):
            def draining(self) -> Any:
                super().draining()
                return self.stays

            stays = False

            def data_received(self, data: bytes) -> None:
                self.stays = self.stays or data == b"s"
                super().data_received(data)

        with self.program(Either, limits=limits) as program:
            stays, idle = self.working(program, 2)
            stays.send(b"s")
            assert stays.read(1) == b"s"
            program.signal(signal.SIGTERM)
            idle.read_eof()
            works(stays)
            assert not program.has_ended()
            stays.close()
            assert program.wait() == 0

    # -- what the program opened, and pairs

    def test_a_drain_does_not_wait_for_what_the_program_opened(self) -> None:
        self.needs("drain", "connect")
        with Upstream() as upstream:
            service = type("Opens", (Opens,), {"where": upstream.address})
            with self.serving(service, limits=LONG) as run:
                (peer,) = self.working(run)
                opened = run.accept(upstream)
                with drained(run):
                    eventually(lambda: nobody_listens(run), "it accepts")
                    works(peer)
                    peer.close()
                    opened.read_eof()

    def test_a_pair_goes_on_in_a_drain_and_is_logged_as_stopped_at_its_end(self) -> None:
        self.needs("drain", "relay", "connect", "shared_state")
        records: list[Any] = []
        with Upstream() as upstream:
            relay = muxcore.Relay(upstream.address, access_log=records.append)
            with self.serving(relay, limits=LONG) as run:
                pairs = [(run.connect(), run.accept(upstream)) for _ in range(2)]
                for peer, _ in pairs:
                    peer.send(b"x")
                for _, there in pairs:
                    assert there.read(1) == b"x"
                run.server.request_drain()
                run.call(lambda: None)  # by now it has begun
                for peer in pairs[1]:
                    peer.close()
                eventually(lambda: len(records) == 1, "it is logged")
                pairs[0][0].send(b"y")
                assert pairs[0][1].read(1) == b"y"
                run.server.stop()
        assert [record.ended for record in records] == ["closed", "stopped"]

    def test_a_pair_that_has_not_finished_is_logged_as_stopped(self) -> None:
        self.needs("drain", "relay", "connect", "shared_state")
        records: list[Any] = []
        with Upstream() as upstream:
            relay = muxcore.Relay(upstream.address, access_log=records.append)
            with self.serving(relay, limits=LONG) as run:
                client = run.connect()
                there = run.accept(upstream)
                client.send(b"x")
                assert there.read(1) == b"x"
                assert run.server.drain(0) is False
                client.read_end()
                there.read_end()
        assert [record.ended for record in records] == ["stopped"]

    # -- the other signals

    def test_hangups_and_user_signals_disturb_nobody(self) -> None:
        with self.program(EchoWriter) as program:
            (peer,) = self.working(program)
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                program.signal(number)
                works(peer)
            peer.close()
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    def test_a_reload_calls_its_hooks_in_the_engines_thread(self) -> None:
        told = threading.Event()
        threads: list[int] = []

        def hook(server: muxcore.Server) -> None:
            threads.append(threading.get_ident())
            told.set()

        with self.serving(EchoWriter) as run:
            run.server.on_reload.append(hook)
            run.server.on_reload.insert(0, lambda server: 1 / 0)  # which is logged
            run.server.reload()
            assert told.wait(DEADLINE)
            if "threadsafe_calls" in self.capabilities:
                assert threads == [run.call(threading.get_ident)]
