"""The server's own promises: calls, adopted sockets, counters, its life."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import EngineSuite, eventually, meanwhile
from muxcore.testing.upstream import Upstream


class Calls(EngineSuite):
    def test_call_later_runs_in_the_order_of_the_times(self) -> None:
        self.needs("timers", "threadsafe_calls")
        ran: list[str] = []
        with self.serving(Recorder) as run:

            def set_timers() -> None:
                later = run.server.call_later
                later(0.03, ran.append, "third")
                later(0.0, ran.append, "first")
                later(0.01, ran.append, "second")
                later(0.005, ran.append, "never").cancel()

            run.call(set_timers)
            eventually(lambda: len(ran) >= 3, "three timers ran")
            assert ran == ["first", "second", "third"]

    def test_call_later_waits_at_least_its_delay(self) -> None:
        self.needs("timers", "threadsafe_calls")
        done: list[float] = []
        with self.serving(Recorder) as run:
            start = time.monotonic()
            run.call(run.server.call_later, 0.05, lambda: done.append(time.monotonic()))
            eventually(lambda: bool(done), "the timer ran")
            assert done[0] - start >= 0.05

    def test_beyond_the_cap_on_timers_the_engines_own_still_run(self) -> None:
        self.needs("timers", "threadsafe_calls")
        limits = muxcore.Limits(timers=1, idle_timeout=0.05)
        with self.serving(Recorder, limits=limits) as run:
            pending = run.call(run.server.call_later, 3600, time.monotonic)
            with pytest.raises(RuntimeError, match=r"Limits\.timers"):
                run.call(run.server.call_later, 3600, time.monotonic)
            client = run.connect()
            assert run.life(client)[-1] == lost("IdleTimeout")
            run.call(pending.cancel)
            run.call(run.server.call_later, 3600, time.monotonic)  # and is given back

    def test_a_timer_runs_while_the_server_is_busy(self) -> None:
        self.needs("timers", "threadsafe_calls")
        ran = threading.Event()
        with self.serving(muxcore.Echo) as run:
            run.call(run.server.call_later, 0.02, ran.set)
            peer = run.connect()
            until = 20_000
            while not ran.is_set() and until:
                peer.send(b"x")
                peer.read(1)
                until -= 1
            assert ran.wait(DEADLINE)

    def test_calls_from_another_thread_run_in_the_engines_thread_and_in_order(self) -> None:
        self.needs("threadsafe_calls")
        ran: list[tuple[int, int]] = []
        with self.serving(Recorder) as run:
            for number in range(100):
                run.server.call_soon_threadsafe(
                    lambda n=number: ran.append((n, threading.get_ident()))
                )
            engine_thread = run.call(threading.get_ident)
            assert ran == [(number, engine_thread) for number in range(100)]
            assert engine_thread != threading.get_ident()

    def test_a_call_that_fails_is_logged_and_harms_nobody(self, caplog: Any) -> None:
        self.needs("threadsafe_calls", "timers")
        with self.serving(Recorder) as run:
            run.server.call_soon_threadsafe(lambda: 1 / 0)
            run.call(run.server.call_later, 0.0, lambda: 1 / 0)
            run.play("send 1; shutdown-write; read-eof")
            eventually(lambda: caplog.text.count("ZeroDivisionError") == 2, "both are logged")

    def test_calls_after_the_end_are_refused(self) -> None:
        self.needs("threadsafe_calls", "timers", "connect")
        with self.serving(Recorder) as run:
            run.server.stop()
            with pytest.raises(RuntimeError, match="has ended"):
                run.server.call_soon_threadsafe(print)
            with pytest.raises(RuntimeError, match="has ended"):
                run.server.call_later(0, print)
            with pytest.raises(RuntimeError, match="has ended"):
                run.server.connect("127.0.0.1:1", muxcore.Echo)

    def test_what_is_for_callbacks_is_refused_in_another_thread(self) -> None:
        self.needs("threadsafe_calls", "timers", "connect")
        with self.serving(Recorder) as run:
            calls: tuple[Callable[[], object], ...] = (
                lambda: run.server.call_later(0, print),
                lambda: run.server.connect("127.0.0.1:1", muxcore.Echo),
            )
            for call in calls:
                with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                    call()
            assert run.server.stats().outgoing == 0
            run.play("send 1; close")

    def test_what_is_asked_for_before_the_start_is_done_after_it(self) -> None:
        self.needs("threadsafe_calls", "timers", "connect")
        ran: list[str] = []

        class Asked:
            def connection_made(self, transport: Any) -> None:
                ran.append("connected")
                transport.close()

        with Upstream() as upstream:
            server = self.server(muxcore.Echo)

            def ask() -> None:
                server.call_later(0, ran.append, "called")
                server.connect(upstream.address, Asked)
                server.connect(upstream.address, Asked).cancel()

            with meanwhile(ask):  # from whichever thread
                pass
            assert not ran
            with server:
                upstream.accept().close()
                eventually(lambda: sorted(ran) == ["called", "connected"], "both were done")

    def test_what_an_engine_lacks_it_refuses_by_name(self) -> None:
        server = self.server(muxcore.Echo)
        sock, other = socket.socketpair()
        with sock, other:
            asked: dict[str, Callable[[], object]] = {
                "timers": lambda: server.call_later(0, print),
                "threadsafe_calls": lambda: server.call_soon_threadsafe(print),
                "adopt": lambda: server.adopt(sock),
                "connect": lambda: server.connect("127.0.0.1:1", muxcore.Echo),
            }
            for capability in asked.keys() - self.capabilities:
                with pytest.raises(muxcore.CapabilityMissing, match=capability):
                    asked[capability]()
        server.stop()

    def test_an_edge_trigger_is_refused_where_there_is_none(self) -> None:
        if "edge_trigger" in self.capabilities:
            muxcore.Server(muxcore.Echo, 0, engine=self.engine, trigger="edge").stop()
        else:
            with pytest.raises(muxcore.CapabilityMissing, match="edge_trigger"):
                muxcore.Server(muxcore.Echo, 0, engine=self.engine, trigger="edge")
        with pytest.raises(ValueError, match="trigger"):
            muxcore.Server(muxcore.Echo, 0, engine=self.engine, trigger="both")

    def test_an_adopted_socket_is_served_like_an_accepted_one(self) -> None:
        self.needs("adopt")
        with self.serving(Recorder) as run:
            ours, theirs = socket.socketpair()
            peer = run.keep(Peer(ours))
            run.server.adopt(theirs)
            peer.send(b"hello")
            peer.shutdown_write()
            peer.read_eof()
            assert run.life() == [MADE, data(b"hello"), EOF, LOST]
            assert run.server.stats().total == 1

    def test_an_adopted_socket_may_have_a_service_of_its_own(self) -> None:
        self.needs("adopt")
        with self.serving(muxcore.Discard) as run:
            ours, theirs = socket.socketpair()
            peer = run.keep(Peer(ours))
            run.server.adopt(theirs, muxcore.Echo)
            peer.send(b"hello")
            assert peer.read(5) == b"hello"

    def test_an_adopted_socket_counts_against_the_cap_on_connections(self) -> None:
        self.needs("adopt")
        pairs = [socket.socketpair() for _ in range(3)]
        with self.serving(muxcore.Echo, limits=muxcore.Limits(connections=2)) as run:
            for _, ours in pairs:
                run.server.adopt(ours)
            one, two, three = (run.keep(Peer(theirs)) for theirs, _ in pairs)
            three.read_eof()
            for peer in (one, two):
                peer.send(b"served")
                assert peer.read(6) == b"served"
            assert run.server.stats().errors["refused"] == 1

    def test_a_socket_adopted_before_the_start_is_served_from_the_start(self) -> None:
        self.needs("adopt")
        ours, theirs = socket.socketpair()
        server = self.server(muxcore.Echo)
        server.adopt(theirs)
        with Peer(ours) as peer, server:
            peer.send(b"hello")
            assert peer.read(5) == b"hello"

    def test_a_socket_adopted_by_a_server_that_never_starts_is_closed(self) -> None:
        self.needs("adopt")
        ours, theirs = socket.socketpair()
        server = self.server(muxcore.Echo)
        server.adopt(theirs)
        server.stop()
        with Peer(ours) as peer:
            peer.read_end()
        assert theirs.fileno() == -1

    def test_a_socket_stays_its_owners_as_it_was_if_the_server_does_not_take_it(self) -> None:
        self.needs("adopt")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            server = self.server(muxcore.Echo)
            no_service: Any = 5
            with pytest.raises(muxcore.ServiceError):
                server.adopt(theirs, no_service)
            server.stop()
            with pytest.raises(RuntimeError):
                server.adopt(theirs)
            assert theirs.getblocking() is True
            theirs.send(b"still mine")
            assert ours.recv(10) == b"still mine"

    def test_what_is_no_open_stream_socket_is_not_adopted(self) -> None:
        self.needs("adopt")
        server = self.server(muxcore.Echo)
        closed = socket.socket()
        closed.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            wrong: list[tuple[Any, type[Exception]]] = [
                (closed, ValueError),
                (datagrams, ValueError),
                (5, TypeError),
                (None, TypeError),
            ]
            for sock, error in wrong:
                with pytest.raises(error, match=r"adopt\(\) needs"):
                    server.adopt(sock)
        server.stop()

    def test_what_the_caller_does_with_an_adopted_socket_is_without_effect(self) -> None:
        self.needs("adopt")
        with self.serving(muxcore.Echo) as run:
            for at_once in (True, False):
                ours, theirs = socket.socketpair()
                peer = run.keep(Peer(ours))
                run.server.adopt(theirs)
                if not at_once:
                    peer.send(b"served")
                    assert peer.read(6) == b"served"
                theirs.close()
                others = [run.connect() for _ in range(3)]  # one of them might get its number
                for each in (peer, *others):
                    each.send(b"hello")
                    assert each.read(5) == b"hello"
                for each in (peer, *others):
                    each.shutdown_write()
                    each.read_eof()

    def test_a_listener_that_was_handed_over_is_the_servers(self) -> None:
        mine = socket.socket()
        mine.bind(("127.0.0.1", 0))
        with self.serving(muxcore.Echo, mine) as run:
            assert mine.fileno() == -1
            mine.close()
            run.play("send 5000; read 5000; close")
            with socket.socket():  # might get its number
                run.play("send 5000; read 5000; close")

    def test_a_listener_of_a_server_that_never_starts_is_left_to_the_caller(self) -> None:
        with socket.socket() as mine:
            mine.bind(("127.0.0.1", 0))
            self.server(muxcore.Echo, mine).stop()
            assert mine.getblocking() is True
            mine.listen()

    def test_a_service_that_is_false_is_a_service(self) -> None:
        self.needs("adopt")

        class Nothing:
            def __len__(self) -> int:
                return 0

            def __call__(self) -> Any:
                return muxcore.Echo()

        with self.serving(muxcore.Discard) as run:
            ours, theirs = socket.socketpair()
            peer = run.keep(Peer(ours))
            run.server.adopt(theirs, Nothing())
            peer.send(b"hello")
            assert peer.read(5) == b"hello"

    def test_stats_count_connections_bytes_and_errors(self) -> None:
        class Answers(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data * 2)

        with self.serving(Answers) as run:
            one, two = run.connect(), run.connect()
            for peer in (one, two):
                peer.send(b"x" * 100)
                peer.read(200)
            stats = run.server.stats()
            assert (stats.open, stats.total, stats.bytes_in) == (2, 2, 200)
            # a byte may be with the peer before it is counted
            eventually(lambda: run.server.stats().bytes_out == 400, "400 bytes are counted")
            one.shutdown_write()
            one.read_eof()
            two.reset()
            eventually(lambda: run.server.stats().open == 0, "no connection is open")
            stats = run.server.stats()
            assert (stats.total, stats.bytes_in, stats.bytes_out) == (2, 200, 400)
            assert dict(stats.errors) == {"ConnectionResetError": 1}

    def test_a_server_starts_once(self) -> None:
        with self.serving(Recorder) as run, pytest.raises(RuntimeError, match="running"):
            run.server.start()
        with pytest.raises(RuntimeError, match="ended"):
            run.server.start()
        run.server.stop()  # again, which changes nothing

    def test_a_server_that_was_never_started_can_be_stopped(self) -> None:
        server = self.server(muxcore.Echo)
        assert server.stop() is True
        with pytest.raises(RuntimeError, match="ended"):
            server.start()

    def test_a_server_that_is_made_and_forgotten_leaves_nothing_behind(self) -> None:
        with self.serving(muxcore.Echo):  # which looks at what is left behind
            for _ in range(3):
                self.server(muxcore.Echo)
            gc.collect()

    def test_after_the_end_nobody_listens(self) -> None:
        with self.serving(Recorder) as run:
            address = run.address
        with pytest.raises(ConnectionRefusedError):
            Peer(address)
