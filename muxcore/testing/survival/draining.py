"""A drain: nobody new, who is here may finish, and who does not is ended."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import DEADLINE, SMALL, Peer, narrow
from muxcore.testing.program import Program, ProgramSuite
from muxcore.testing.recorder import LOST, MADE, Event, Recorder, data, lost
from muxcore.testing.suite import Run, eventually, meanwhile
from muxcore.testing.survival.clients import EchoWriter
from muxcore.testing.upstream import Upstream

TOLD: Event = ("draining",)
STOPPED = lost("Stopped")
_LONG = Limits(drain_timeout=600)  # nobody waits for it


class Hears(Recorder):
    """Echoes, and hears of a drain."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)

    def draining(self) -> Any:
        self.record("draining")


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


def works(peer: Peer) -> None:
    """See that a peer is served."""
    peer.send(b"x")
    assert peer.read(1) == b"x"


def any_readable(peers: list[Peer]) -> bool:
    return any(peer.readable() for peer in peers)


def nobody_listens(run: Run) -> bool:
    """Return whether a connection is refused; of one that is not, nothing is left."""
    try:
        with Peer(run.address) as peer:
            peer.reset()
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        pass  # it was in the queue of a listener that was closed
    return False


@contextlib.contextmanager
def drained(run: Run) -> Iterator[list[bool]]:
    """Drain while the block runs; yield where the result will be. A block that fails ends it."""
    results: list[bool] = []
    with meanwhile(lambda: results.append(run.server.drain())):
        try:
            yield results
        except BaseException:
            run.server.request_stop()
            raise


class Draining(ProgramSuite):
    def needs_drain(self) -> None:
        """Skip the scenario if the engine takes a drain for a stop, as it may."""
        if muxcore.engine(self.engine).drain is muxcore.abc.Engine.drain:
            pytest.skip(f"the engine {self.engine} does not drain")

    def working(self, program: Program | Run, count: int = 1) -> list[Peer]:
        """Return so many peers that are served."""
        peers = [program.connect() for _ in range(count)]
        for peer in peers:
            works(peer)
        return peers

    # -- who is here

    def test_a_client_goes_on_in_a_drain_and_its_end_is_the_drains(self) -> None:
        self.needs_drain()
        with self.program(EchoWriter, limits=_LONG) as program:
            peer, last = self.working(program, 2)
            program.signal(signal.SIGTERM)
            eventually(lambda: nobody_listens(program), "it accepts")
            for each in (peer, last):
                works(each)
            peer.close()
            works(last)
            assert not program.has_ended()
            last.close()
            assert program.wait() == 0

    def test_clients_of_a_verb_go_on_in_a_drain(self) -> None:
        self.needs_drain()
        with self.program(muxcore.Echo, limits=_LONG) as program:
            peer, last = self.working(program, 2)
            program.signal(signal.SIGTERM)
            eventually(lambda: nobody_listens(program), "it accepts")
            for each in (peer, last):
                works(each)
                each.close()
            assert program.wait() == 0

    def test_a_drain_without_clients_ends_at_once(self) -> None:
        with self.program(EchoWriter, limits=_LONG) as program:
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    def test_who_has_not_finished_in_time_is_stopped_and_the_status_says_so(self) -> None:
        self.needs_drain()
        with self.program(Hears, limits=Limits(drain_timeout=0)) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            peer.read_eof()
            assert program.life(peer)[-1] == STOPPED
            assert program.wait() == 1

    def test_a_client_of_a_verb_that_has_not_finished_is_stopped(self) -> None:
        self.needs_drain()
        with self.program(muxcore.Echo, limits=Limits(drain_timeout=0)) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            peer.read_eof()
            assert program.wait() == 1
            assert program.report()["errors"]["Stopped"] == 1

    def test_a_spread_ends_everybody(self) -> None:
        self.needs_drain()
        limits = Limits(drain_timeout=0, drain_spread=0.3)
        for service in (muxcore.Echo, Hears):
            with self.program(service, limits=limits) as program:
                peers = self.working(program, 5)
                program.signal(signal.SIGTERM)
                for peer in peers:
                    peer.read_eof()
                assert program.wait() == 1
                assert program.report()["errors"]["Stopped"] == 5

    def test_a_spread_ends_one_after_the_other(self) -> None:
        self.needs_drain()
        # the second is due in half of it, which nobody waits for
        limits = Limits(drain_timeout=0, drain_spread=1200)
        for service in (muxcore.Echo, Hears):
            with self.program(service, limits=limits) as program:
                peers = self.working(program, 2)
                program.signal(signal.SIGTERM)
                eventually(functools.partial(any_readable, peers), "nobody is ended")
                left, ended = sorted(peers, key=Peer.readable)
                ended.read_eof()
                works(left)
                left.close()
                assert program.wait() == 1

    # -- readiness, and the delay

    def test_a_drain_accepts_until_its_delay_is_over_and_is_not_ready(self) -> None:
        self.needs_drain()
        limits = Limits(drain_timeout=600, drain_delay=600)
        with self.serving(EchoWriter, limits=limits) as run:
            assert run.server.ready
            run.server.request_drain()
            assert not run.server.ready
            (peer,) = self.working(run)
            assert not run.server.ready
            peer.close()

    def test_a_server_is_not_ready_before_its_start_nor_from_a_stop_on(self) -> None:
        server = self.server(muxcore.Echo, allow_threads=True)
        assert not server.ready
        heard: list[bool] = []

        def note(server: muxcore.Server) -> None:
            heard.append(server.ready)

        def note_and_stop(server: muxcore.Server) -> None:
            note(server)
            server.stop()

        server.on_drain.append(note)
        assert server.run(note_and_stop) == 0
        assert heard == [True, False]
        assert not server.ready

    def test_hooks_hear_once_that_a_drain_begins(self) -> None:
        heard: list[bool] = []
        with self.serving(EchoWriter, limits=_LONG) as run:
            run.server.on_drain.append(lambda server: heard.append(server.ready))
            assert run.server.drain() is True
        assert heard == [False]

    # -- by a call

    def test_drain_waits_for_clients(self) -> None:
        self.needs_drain()
        with self.serving(EchoWriter, limits=_LONG) as run:
            (peer,) = self.working(run)
            with drained(run) as results:
                eventually(lambda: nobody_listens(run), "it accepts")
                works(peer)
                assert results == []
                peer.close()
            assert results == [True]

    def test_drain_says_that_a_client_was_stopped(self) -> None:
        self.needs_drain()
        with self.serving(Hears, limits=_LONG) as run:
            (peer,) = self.working(run)
            assert run.server.drain(0) is False
            peer.read_eof()
            assert run.life(peer)[-1] == STOPPED

    def test_a_stop_cuts_a_drain_short(self) -> None:
        self.needs_drain()
        with self.serving(Hears, limits=_LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            run.wait_for(TOLD, peer)
            assert run.server.stop() is True
            peer.read_eof()
            assert run.life(peer)[-1] == LOST

    def test_a_second_signal_aborts_a_drain(self) -> None:
        self.needs_drain()
        with self.program(Hears, limits=_LONG) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            program.wait_for(TOLD, peer)  # two that come close together are one
            program.signal(signal.SIGTERM)
            peer.read_end()
            assert program.wait() == 128 + signal.SIGTERM

    def test_a_callback_may_ask_for_a_drain_and_finishes(self) -> None:
        self.needs_drain()

        class Asks(Hears):
            def data_received(self, data: bytes) -> None:
                if data == b"drain":
                    self.transport.server.request_drain()
                else:
                    super().data_received(data)

        with self.serving(Asks, limits=_LONG) as run:
            (peer,) = self.working(run)
            peer.send(b"drain")
            run.wait_for(TOLD, peer)
            works(peer)
            peer.close()
            assert run.life(peer)[-1] == LOST
            assert run.server.drain() is True

    def test_a_callback_may_stop_a_server_that_waits_for_others(self) -> None:
        class Stops(Hears):
            def data_received(self, data: bytes) -> None:
                if data == b"stop":
                    self.transport.server.request_stop()
                else:
                    super().data_received(data)

        with self.program(Stops, limits=_LONG) as program:
            peer, other = self.working(program, 2)
            peer.send(b"stop")
            other.read_eof()
            peer.read_eof()
            assert program.life(other)[-1] == LOST
            assert program.wait() == 0

    def test_a_drain_before_the_start_is_an_end(self) -> None:
        server = self.server(muxcore.Echo, allow_threads=True)
        assert server.drain() is True
        assert not server.ready

    # -- what protocols hear

    def test_each_connection_hears_once_that_a_drain_begins(self) -> None:
        self.needs_drain()
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
        self.needs_drain()
        with self.serving(Hears, limits=_LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            for _ in range(500):
                works(peer)
            run.wait_for(TOLD, peer)
            works(peer)

    def test_a_protocol_may_close_when_it_hears_of_a_drain(self) -> None:
        self.needs_drain()

        class Closes(Hears):
            def draining(self) -> None:
                super().draining()
                self.transport.write(b"goodbye")
                self.transport.close()

        with self.serving(Closes, limits=_LONG) as run:
            peers = self.working(run, 3)
            with drained(run):
                for peer in peers:
                    assert peer.read_all() == b"goodbye"
            for peer in peers:
                assert run.life(peer)[-2:] == [TOLD, LOST]

    def test_an_error_in_draining_closes_that_connection_alone(self) -> None:
        self.needs_drain()
        self.needs("shared_state")  # they tell which comes first

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
        self.needs_drain()

        class Hands(Hears):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data)
                self.transport.echo()

        with self.serving(Hands, limits=_LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            eventually(lambda: nobody_listens(run), "it accepts")
            works(peer)
            peer.close()
            assert run.life(peer) == [MADE, LOST]

    def test_an_attribute_of_that_name_is_left_alone(self) -> None:
        self.needs_drain()
        with self.serving(Knows, limits=_LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            eventually(lambda: nobody_listens(run), "it accepts")
            works(peer)

    # -- who is idle

    def test_an_idle_client_is_ended_where_that_is_asked_for(self) -> None:
        self.needs_drain()
        limits = Limits(drain_timeout=600, drain_idle=0.02)
        for service in (Hears, muxcore.Echo):
            with self.program(service, limits=limits) as program:
                (peer,) = self.working(program)
                program.signal(signal.SIGTERM)
                peer.read_eof()
                assert program.wait() == 0

    def test_what_is_not_sent_yet_makes_nobody_idle(self) -> None:
        self.needs_drain()
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
        self.needs_drain()
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
        self.needs_drain()
        self.needs("connect")
        with Upstream() as upstream:
            service = type("Opens", (Opens,), {"where": upstream.address})
            with self.serving(service, limits=_LONG) as run:
                (peer,) = self.working(run)
                opened = run.accept(upstream)
                with drained(run):
                    eventually(lambda: nobody_listens(run), "it accepts")
                    works(peer)
                    peer.close()
                    opened.read_eof()

    def test_a_pair_goes_on_in_a_drain_and_is_logged_as_stopped_at_its_end(self) -> None:
        self.needs_drain()
        self.needs("relay", "connect", "shared_state")
        records: list[Any] = []
        with Upstream() as upstream:
            relay = muxcore.Relay(upstream.address, access_log=records.append)
            with self.serving(relay, limits=_LONG) as run:
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
        self.needs_drain()
        self.needs("relay", "connect", "shared_state")
        records: list[Any] = []
        with Upstream() as upstream:
            relay = muxcore.Relay(upstream.address, access_log=records.append)
            with self.serving(relay, limits=_LONG) as run:
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
