"""A drain: nobody new, who is here may finish, and who does not is ended; how it is asked for."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Iterator
from typing import Any

import muxcore
from muxcore.limits import Limits
from muxcore.testing.peer import Peer
from muxcore.testing.proc import listens
from muxcore.testing.program import Program, ProgramSuite
from muxcore.testing.recorder import LOST, Event, Recorder, lost
from muxcore.testing.suite import Run, eventually, meanwhile
from muxcore.testing.survival.clients import EchoWriter

TOLD: Event = ("draining",)
STOPPED = lost("Stopped")
LONG = Limits(drain_timeout=600)  # nobody waits for it


class Hears(Recorder):
    """Echoes, and hears of a drain."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)

    def draining(self) -> Any:
        self.record("draining")


def works(peer: Peer) -> None:
    """See that a peer is served."""
    peer.send(b"x")
    assert peer.read(1) == b"x"


def any_readable(peers: list[Peer]) -> bool:
    return any(peer.readable() for peer in peers)


def nobody_listens(run: Run) -> bool:
    """Return whether the server accepts no more; nobody has to knock for that."""
    return not listens(run.address)


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


class DrainSuite(ProgramSuite):
    """What scenarios of a drain have in common."""

    def working(self, program: Program | Run, count: int = 1) -> list[Peer]:
        """Return so many peers that are served."""
        peers = [program.connect() for _ in range(count)]
        for peer in peers:
            works(peer)
        return peers


class Draining(DrainSuite):
    # -- who is here

    def test_a_client_goes_on_in_a_drain_and_its_end_is_the_drains(self) -> None:
        self.needs("drain")
        with self.program(EchoWriter, limits=LONG) as program:
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
        self.needs("drain")
        with self.program(muxcore.Echo, limits=LONG) as program:
            peer, last = self.working(program, 2)
            program.signal(signal.SIGTERM)
            eventually(lambda: nobody_listens(program), "it accepts")
            for each in (peer, last):
                works(each)
                each.close()
            assert program.wait() == 0

    def test_a_drain_without_clients_ends_at_once(self) -> None:
        with self.program(EchoWriter, limits=LONG) as program:
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    def test_who_has_not_finished_in_time_is_stopped_and_the_status_says_so(self) -> None:
        self.needs("drain")
        with self.program(Hears, limits=Limits(drain_timeout=0)) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            peer.read_eof()
            assert program.life(peer)[-1] == STOPPED
            assert program.wait() == 1

    def test_a_client_of_a_verb_that_has_not_finished_is_stopped(self) -> None:
        self.needs("drain")
        with self.program(muxcore.Echo, limits=Limits(drain_timeout=0)) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            peer.read_eof()
            assert program.wait() == 1
            assert program.report()["errors"]["Stopped"] == 1

    def test_a_spread_ends_everybody(self) -> None:
        self.needs("drain")
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
        self.needs("drain")
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
        self.needs("drain")
        limits = Limits(drain_timeout=600, drain_delay=600)
        with self.serving(EchoWriter, limits=limits) as run:
            assert run.server.ready
            run.server.request_drain()
            assert not run.server.ready
            if "threadsafe_calls" in run.server.capabilities:
                run.call(bool)  # it has begun by then
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
        with self.serving(EchoWriter, limits=LONG) as run:
            run.server.on_drain.append(lambda server: heard.append(server.ready))
            assert run.server.drain() is True
        assert heard == [False]

    # -- by a call

    def test_drain_waits_for_clients(self) -> None:
        self.needs("drain")
        with self.serving(EchoWriter, limits=LONG) as run:
            (peer,) = self.working(run)
            with drained(run) as results:
                eventually(lambda: nobody_listens(run), "it accepts")
                works(peer)
                assert results == []
                peer.close()
            assert results == [True]

    def test_drain_says_that_a_client_was_stopped(self) -> None:
        self.needs("drain")
        with self.serving(Hears, limits=LONG) as run:
            (peer,) = self.working(run)
            assert run.server.drain(0) is False
            peer.read_eof()
            assert run.life(peer)[-1] == STOPPED

    def test_a_stop_cuts_a_drain_short(self) -> None:
        self.needs("drain")
        with self.serving(Hears, limits=LONG) as run:
            (peer,) = self.working(run)
            run.server.request_drain()
            run.wait_for(TOLD, peer)
            assert run.server.stop() is True
            peer.read_eof()
            assert run.life(peer)[-1] == LOST

    def test_a_second_signal_aborts_a_drain(self) -> None:
        self.needs("drain")
        with self.program(Hears, limits=LONG) as program:
            (peer,) = self.working(program)
            program.signal(signal.SIGTERM)
            program.wait_for(TOLD, peer)  # two that come close together are one
            program.signal(signal.SIGTERM)
            peer.read_end()
            assert program.wait() == 128 + signal.SIGTERM

    def test_a_callback_may_ask_for_a_drain_and_finishes(self) -> None:
        self.needs("drain")

        class Asks(Hears):
            def data_received(self, data: bytes) -> None:
                if data == b"drain":
                    self.transport.server.drain()
                else:
                    super().data_received(data)

        with self.serving(Asks, limits=LONG) as run:
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

        with self.program(Stops, limits=LONG) as program:
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
