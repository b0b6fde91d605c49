"""Trouble inside one turn: what an earlier callback did governs later events.

The engine is held between two turns while several peers act, so that all they did is news of one
turn.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from typing import Any, ClassVar

from muxcore.testing.peer import Peer
from muxcore.testing.recorder import LOST, MADE, Recorder, data
from muxcore.testing.suite import EngineSuite, Run, eventually
from muxcore.testing.survival.clients import idle_cpu


class First(Recorder):
    """Whoever hears something first acts on all the others, once; a class for each scenario."""

    acted: ClassVar[bool] = False

    def act(self, others: list[Any]) -> None:
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if not self.acted:
            type(self).acted = True
            protocols = self.journal.protocols.values()
            self.act([p.transport for p in protocols if p is not self])
            self.note("acted")
        super().data_received(data)


def _speak_at_once(run: Run, count: int) -> tuple[Peer, list[Peer]]:
    """Have ``count`` peers send in one turn; return who was heard first, and the others."""
    peers = [run.connect() for _ in range(count)]
    for peer in peers:
        run.wait_for(MADE, peer)
    with run.held():
        for peer in peers:
            peer.send(b"hello")

    def first() -> list[Peer]:
        return [peer for peer in peers if ("note", "acted") in run.events(peer)]

    eventually(lambda: len(first()) == 1, "one was heard first")
    return first()[0], [peer for peer in peers if peer is not first()[0]]


class Turns(EngineSuite):
    def test_closing_another_connection_takes_its_event_of_the_same_turn(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Closes(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    transport.close()

        with self.serving(Closes) as run:
            first, others = _speak_at_once(run, 5)
            for peer in others:
                peer.read_end()
                assert run.life(peer) == [MADE, LOST]
            run.wait_for(data(b"hello"), first)

    def test_aborting_another_connection_takes_its_event_of_the_same_turn(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Aborts(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    transport.abort()

        with self.serving(Aborts) as run:
            _, others = _speak_at_once(run, 5)
            for peer in others:
                peer.read_end()
                assert run.life(peer) == [MADE, LOST]

    def test_pausing_another_connection_takes_its_data_of_the_same_turn(self) -> None:
        self.needs("shared_state", "threadsafe_calls", "flow_control")

        class Pauses(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    transport.pause_reading()

        with self.serving(Pauses) as run:
            _, others = _speak_at_once(run, 5)
            run.call(int)  # the turn is over
            for peer in others:
                assert run.events(peer) == [MADE]
                run.call(run.protocol(peer).transport.resume_reading)
                run.wait_for(data(b"hello"), peer)

    def test_switching_another_connection_takes_its_data_of_the_same_turn(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Switches(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    transport.echo()

        with self.serving(Switches) as run:
            _, others = _speak_at_once(run, 5)
            for peer in others:
                assert peer.read(5) == b"hello"
                peer.shutdown_write()
                peer.read_eof()
                assert run.life(peer) == [MADE, LOST]

    def test_giving_another_connection_a_protocol_takes_its_data_of_the_same_turn(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Second(Recorder):
            def data_received(self, data: bytes) -> None:
                self.note(data)

        class Gives(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    second = Second(self.journal)
                    second.key = transport.get_protocol().key
                    transport.set_protocol(second)

        with self.serving(Gives) as run:
            _, others = _speak_at_once(run, 5)
            for peer in others:
                assert run.wait_for("note", peer) == [MADE, ("note", b"hello")]

    def test_a_descriptor_that_is_used_again_gets_no_event_of_its_predecessor(self) -> None:
        self.needs("shared_state", "threadsafe_calls", "adopt")
        ours: list[socket.socket] = []

        class Successor(Recorder):
            def eof_received(self) -> None:
                self.note("EOF that nobody sent")

        class Replaces(First):
            def act(self, others: list[Any]) -> None:
                for transport in others:
                    transport.abort()
                for _ in others:
                    here, there = socket.socketpair()
                    ours.append(here)
                    successor = Successor(self.journal)
                    self.transport.server.adopt(there, lambda s=successor: s)

        with self.serving(Replaces) as run:
            peers = [run.connect() for _ in range(6)]
            for peer in peers:
                run.wait_for(MADE, peer)
            with run.held():
                for peer in peers:
                    peer.send(b"hello")
                    peer.shutdown_write()
            eventually(lambda: len(ours) == 5, "the others were replaced")
            for sock in ours:
                run.keep(Peer(sock)).send(b"for the successor")
            eventually(
                lambda: run.journal.everything().count(data(b"for the successor")) == 5,
                "each successor hears what was sent to it, and nothing before",
            )
            assert ("note", "EOF that nobody sent") not in run.journal.everything()

    def test_a_hundred_connections_may_end_one_another(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class EndsAll(Recorder):
            def data_received(self, data: bytes) -> None:
                for protocol in list(self.journal.protocols.values()):
                    protocol.transport.close()

            def connection_lost(self, exc: BaseException | None) -> None:
                super().connection_lost(exc)
                for protocol in list(self.journal.protocols.values()):
                    protocol.transport.abort()

        with self.serving(EndsAll) as run:
            peers = [run.connect() for _ in range(100)]
            for peer in peers:
                run.wait_for(MADE, peer)
            peers[50].send(b"x")
            for peer in peers:
                assert run.life(peer) == [MADE, LOST]

    def test_a_callback_may_serve_a_new_connection(self) -> None:
        self.needs("adopt", "shared_state")

        class Adopts(Recorder):
            def data_received(self, data: bytes) -> None:
                ours, theirs = socket.socketpair()
                self.transport.server.adopt(theirs, lambda: Recorder(self.journal))
                ours.sendall(data)
                ours.close()

        with self.serving(Adopts) as run:
            peer = run.connect()
            peer.send(b"hello")
            run.journal.wait(
                lambda: data(b"hello") in run.journal.everything(),
                "the adopted connection hears what was sent to it",
            )

    def test_a_child_that_user_code_forked_does_not_keep_the_loop_busy(self) -> None:
        self.needs("shared_state", "threadsafe_calls")
        children: list[int] = []

        class Forks(Recorder):
            def data_received(self, data: bytes) -> None:
                with warnings.catch_warnings():  # of threads: the child does nothing
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if pid == 0:  # holds every descriptor, as a child without exec does
                    time.sleep(20)
                    os._exit(0)
                children.append(pid)
                super().data_received(data)

        with self.serving(Forks) as run:
            try:
                peer, other = run.connect(), run.connect()
                run.wait_for(MADE, other)
                peer.send(b"fork")
                run.wait_for(data(b"fork"), peer)
                for ended in (peer, other):  # events for a file that only the child still has
                    run.call(run.protocol(ended).transport.abort)
                    run.life(ended)
                peer.sock.shutdown(socket.SHUT_WR)
                other.send(b"late")
                idle_cpu()
                again = run.connect()
                again.shutdown_write()
                assert run.life(again)[0] == MADE
            finally:
                for pid in children:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)

    def test_an_exception_in_any_callback_leaves_the_others_of_the_turn_alone(self) -> None:
        self.needs("shared_state", "threadsafe_calls")

        class Fails(First):
            def act(self, others: list[Any]) -> None:
                self.note("acted")
                raise ZeroDivisionError

        with self.serving(Fails) as run:
            peers = [run.connect() for _ in range(4)]
            for peer in peers:
                run.wait_for(MADE, peer)
            with run.held():
                for peer in peers:
                    peer.send(b"hello")
            eventually(
                lambda: sum(data(b"hello") in run.events(peer) for peer in peers) == 3,
                "the three others heard their bytes",
            )

    def test_the_bytes_of_many_that_speak_in_turn_stay_apart(self) -> None:
        with self.serving(Recorder) as run:
            peers = [run.connect() for _ in range(20)]
            for round_ in range(5):
                for number, peer in enumerate(peers):
                    peer.send(b"%d.%d;" % (number, round_))
            for number, peer in enumerate(peers):
                peer.shutdown_write()
                sent = b"".join(b"%d.%d;" % (number, round_) for round_ in range(5))
                assert data(sent) in run.life(peer)
