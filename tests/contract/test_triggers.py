"""What the two triggers of epoll differ in, and that a protocol cannot tell them apart."""

from __future__ import annotations

import os
import socket

import pytest

import muxcore
from muxcore.pure.epoll_engine import EpollEngine, EpollPoller
from muxcore.pure.poller import ERROR, READ, WRITE
from muxcore.testing import ContractSuite, Peer, Recorder
from muxcore.testing.peer import DEADLINE

pytestmark = pytest.mark.skipif(
    EpollEngine.unavailable() is not None, reason="this system has no epoll"
)


@pytest.mark.parametrize(("trigger", "times"), [("level", 3), ("edge", 1)])
def test_what_is_left_unread_is_reported_again_by_level_and_once_by_edge(
    trigger: str, times: int
) -> None:
    ours, theirs = socket.socketpair()
    poller = EpollPoller(trigger)
    with ours, theirs:
        poller.watch(ours.fileno(), READ)
        poller.wait(0)  # under an edge trigger the first report is that it can be written to
        theirs.send(b"unread")
        reports = [len(list(poller.wait(0))) for _ in range(3)]
        poller.close()
    assert sum(reports) == times


def test_new_bytes_are_a_new_edge() -> None:
    ours, theirs = socket.socketpair()
    poller = EpollPoller("edge")
    with ours, theirs:
        poller.watch(ours.fileno(), READ)
        poller.wait(0)
        for _ in range(2):
            theirs.send(b"x")
            assert [(fd, mask & READ) for fd, mask in poller.wait(0)] == [(ours.fileno(), READ)]
            assert list(poller.wait(0)) == []
        poller.close()


def test_data_and_fin_that_come_together_are_one_edge_which_says_so() -> None:
    ours, theirs = socket.socketpair()
    poller = EpollPoller("edge")
    with ours:
        poller.watch(ours.fileno(), READ)
        poller.wait(0)
        theirs.send(b"x")
        theirs.close()
        ((_, events),) = poller.wait(0)
        assert events & ~(READ | WRITE)
        assert list(poller.wait(0)) == []
        poller.close()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return listener.accept()[0], theirs


@pytest.mark.parametrize("trigger", ["level", "edge"])
def test_a_reset_is_told_once_to_those_who_want_nothing(trigger: str) -> None:
    ours, theirs = _connected()
    poller = EpollPoller(trigger)
    with ours:
        poller.watch(ours.fileno(), READ)
        poller.watch(ours.fileno(), 0)
        poller.wait(0)
        Peer(theirs).reset()
        ((_, events),) = poller.wait(DEADLINE)
        assert events & ERROR
        assert list(poller.wait(0)) == []
        poller.close()


def test_those_who_want_nothing_hear_of_no_data_and_of_it_later() -> None:
    ours, theirs = socket.socketpair()
    poller = EpollPoller("level")
    with ours, theirs:
        poller.watch(ours.fileno(), 0)
        theirs.send(b"unread")
        assert list(poller.wait(0)) == []
        poller.watch(ours.fileno(), READ)
        assert list(poller.wait(0)) == [(ours.fileno(), READ)]
        poller.close()


def test_a_registration_that_nobody_can_name_costs_a_new_set_and_no_event() -> None:
    ours, theirs = socket.socketpair()
    ours_too = os.dup(ours.fileno())  # as a forked child has it: the file stays open
    other, others = socket.socketpair()
    poller = EpollPoller("level")
    with theirs, other, others:
        number = ours.detach()
        poller.watch(number, READ)
        poller.watch(other.fileno(), READ)
        os.close(number)  # by somebody else
        theirs.send(b"unread")
        assert list(poller.wait(0)) == [(number, READ)]
        poller.forget(number)
        assert list(poller.wait(0)) == []
        others.send(b"x")
        assert list(poller.wait(DEADLINE)) == [(other.fileno(), READ)]
        poller.close()
        os.close(ours_too)


def test_both_triggers_give_a_protocol_the_same_events() -> None:
    lives = []
    for trigger in ("level", "edge"):
        suite = type("Suite", (ContractSuite,), {"engine": "pure-epoll", "trigger": trigger})()
        with suite.serving(Recorder, limits=muxcore.Limits(read_chunk=1000)) as run:
            peer = run.play("send 2000; pause 0.01; send 2500; shutdown-write; read-eof")
            lives.append(run.life(peer))
    assert lives[0] == lives[1]
