"""How a server ends: by signals, by calls from anywhere, under load, with a bounded drain."""

from __future__ import annotations

import functools
import signal
import threading
import time
from typing import Any

import pytest

import muxcore
from muxcore.limits import Limits
from muxcore.testing.patience import SOON, soon, within
from muxcore.testing.peer import DEADLINE, SMALL, Peer, narrow, pattern
from muxcore.testing.program import ProgramSuite
from muxcore.testing.recorder import LOST, MADE, Recorder, data
from muxcore.testing.suite import eventually, meanwhile
from muxcore.testing.survival.clients import EchoWriter, flood

MIB = 1 << 20


class Pours(Recorder):
    """Sends more than the kernel takes for a client that does not read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(bytes(2 * MIB))


class Floods:
    """The same, for a server of which nobody keeps a journal."""

    def connection_made(self, transport: Any) -> None:
        transport.write(bytes(2 * MIB))


class Ending(ProgramSuite):
    def test_sigterm_ends_with_status_0(self) -> None:
        with self.program(EchoWriter) as program:
            peer = program.connect()
            peer.send(b"x")
            peer.read(1)
            peer.close()
            program.signal(signal.SIGTERM)
            assert program.wait() == 0

    def test_sigint_ends_with_status_130(self) -> None:
        with self.program(EchoWriter) as program:
            peer = program.connect()
            peer.send(b"x")
            peer.read(1)
            program.signal(signal.SIGINT)
            peer.read_eof()
            assert program.wait() == 130

    def test_a_signal_under_full_load_ends_soon(self) -> None:
        limits = Limits(drain_timeout=0, stop_timeout=0.1)
        for service in (muxcore.Echo, EchoWriter):
            with self.program(service, limits=limits) as program, flood(program.address, 2):
                program.signal(signal.SIGTERM)
                soon(program.has_ended, "it ends")
                assert program.wait() in (0, 1)  # 1: bytes for the flooders were still queued

    def test_a_second_signal_aborts(self) -> None:
        with self.program(Pours, narrow(), limits=Limits(stop_timeout=60)) as program:
            peer, last = program.connect(receive_buffer=SMALL), program.connect()
            program.wait_for(MADE, peer)
            last.read(2 * MIB)
            program.signal(signal.SIGINT)
            last.read_eof()  # it stops: a second one before the first was heard is the same one
            assert not program.has_ended()
            program.signal(signal.SIGTERM)
            soon(program.has_ended, "it ends at the second signal")
            assert program.wait() == 128 + signal.SIGTERM

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_third_signal_ends_a_callback_that_never_returns(
        self, number: signal.Signals
    ) -> None:
        self.needs("shared_state")  # else a callback has a process of its own

        class Hangs(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                while True:
                    time.sleep(3600)

        with self.program(Hangs) as program:
            peer = program.connect()
            peer.send(b"x")
            program.wait_for(data(b"x"), peer)

            def ended() -> bool:
                program.signal(number)  # two that come close together are one
                return program.has_ended()

            eventually(ended, "it goes on")
            assert program.wait() == -number

    def test_a_drain_that_is_cut_short_ends_with_status_1(self) -> None:
        limits = Limits(drain_timeout=0, stop_timeout=0.1)
        with self.program(Pours, narrow(), limits=limits) as program:
            peer = program.connect(receive_buffer=SMALL)
            program.wait_for(MADE, peer)
            peer.pause(0.05)  # in a process each, let it fill the kernel's buffers
            program.signal(signal.SIGTERM)
            assert program.wait() == 1

    def test_a_signal_sends_what_is_queued_first(self) -> None:
        answer = pattern(2 * MIB)

        class Answers(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(answer)

        with self.program(Answers, narrow()) as program:
            peer = program.connect(receive_buffer=SMALL)
            program.wait_for(MADE, peer)
            peer.pause(0.05)
            program.signal(signal.SIGINT)
            peer.pause(0.1)  # let the signal interrupt what is being sent
            assert peer.read_all() == answer
            assert program.wait() == 130

    def test_signal_handlers_are_put_back(self) -> None:
        def handlers() -> list[str]:
            fd = signal.set_wakeup_fd(-1)
            found = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
            return [repr(h) for h in found] + [str(fd)]

        def first() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

        with self.program(muxcore.Echo, first=first, at_end=handlers) as program:
            program.signal(signal.SIGTERM)
            wanted = [repr(signal.default_int_handler), repr(signal.SIG_DFL), "-1"]
            assert program.report()["at_end"] == wanted

    # -- by a call

    def test_stop_from_another_thread_waits_for_what_serves_in_this_one(self) -> None:
        limits = Limits(stop_timeout=0.3)
        server = self.server(Floods, narrow(), limits=limits, allow_threads=True)
        ready, status = threading.Event(), list[int]()

        def serve() -> None:
            status.append(server.run(lambda server: ready.set()))

        with meanwhile(serve):
            assert ready.wait(DEADLINE)
            with Peer(server.addresses[0], receive_buffer=SMALL) as peer:
                peer.read(1)
                peer.pause(0.05)  # in a process each, let it fill the kernel's buffers
                assert server.stop() is False
                assert server.stats().open == 0
        assert status == [1]
        assert server.stop() is False

    def test_stop_before_it_serves_lets_run_return_at_once(self) -> None:
        server = self.server(muxcore.Echo, allow_threads=True)
        assert server.run(lambda server: server.stop()) == 0
        assert server.stop() is True

    def test_a_callback_may_stop_the_server_and_goes_on(self) -> None:
        self.needs("shared_state")

        class Stops(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.server.stop()
                self.transport.server.stop()
                self.transport.write(b"goodbye")

        with self.serving(Stops) as run:
            peer = run.connect()
            peer.send(b"x")
            assert peer.read_all() == b"goodbye"
            assert run.life(peer) == [MADE, LOST]
            assert run.server.stop() is True

    def test_connection_lost_may_stop_the_server(self) -> None:
        self.needs("shared_state")

        class Stops(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                self.transport.server.stop()
                super().connection_lost(exc)

        with self.serving(Stops) as run:
            peer, other = run.connect(), run.connect()
            run.wait_for(MADE, other)
            peer.close()
            other.read_eof()
            assert run.life(other) == [MADE, LOST]
            assert run.server.stop() is True

    def test_threads_may_stop_the_server_at_the_same_time(self) -> None:
        with self.serving(EchoWriter) as run:
            peer = run.connect()
            peer.send(b"x")
            peer.read(1)
            results: list[Any] = []
            threads = [
                threading.Thread(target=lambda: results.append(run.server.stop())) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            assert results == [True] * 3
            peer.read_eof()

    def test_stopping_under_full_load_ends_soon(self) -> None:
        limits = Limits(stop_timeout=0.1)
        with self.serving(EchoWriter, limits=limits) as run, flood(run.address, 2):
            within(SOON, run.server.stop, "it stops")

    def test_the_drain_is_bounded_and_its_result_told(self) -> None:
        with self.serving(Pours, narrow(), limits=Limits(stop_timeout=0.1)) as run:
            peer = run.connect(receive_buffer=SMALL)
            run.wait_for(MADE, peer)
            peer.pause(0.05)
            assert within(SOON, run.server.stop, "the drain ends") is False

    def test_clients_that_keep_knocking_do_not_hold_up_the_end(self) -> None:
        knocks, enough, ended = [0] * 3, threading.Event(), threading.Event()

        def knock(number: int) -> None:
            while not ended.is_set():
                try:
                    with Peer(run.address) as peer:
                        peer.send(b"x")
                        peer.sock.recv(1)
                        peer.reset()  # else a port is kept for a minute
                except ConnectionRefusedError:
                    return  # nobody listens any more
                except ConnectionError:
                    pass
                knocks[number] += 1
                if min(knocks) >= 10:
                    enough.set()

        knocking = [functools.partial(knock, number) for number in range(len(knocks))]
        limits = Limits(stop_timeout=60)
        with self.serving(muxcore.Echo, limits=limits) as run, meanwhile(*knocking):
            try:
                assert enough.wait(DEADLINE), f"it was knocked {knocks} times"
                assert within(DEADLINE, run.server.stop, "it stops") is True
            finally:
                ended.set()
