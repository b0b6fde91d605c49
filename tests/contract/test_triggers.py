"""What the two triggers of epoll differ in, and that a protocol cannot tell them apart."""

from __future__ import annotations

import socket

import pytest

import muxcore
from muxcore.pure.epoll_engine import EpollEngine, EpollPoller
from muxcore.pure.poller import READ
from muxcore.testing import ContractSuite, Recorder

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
            assert [(fd, mask & READ) for fd, mask, _ in poller.wait(0)] == [(ours.fileno(), READ)]
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
        ((_, _, hung_up),) = poller.wait(0)
        assert hung_up
        assert list(poller.wait(0)) == []
        poller.close()


def test_both_triggers_give_a_protocol_the_same_events() -> None:
    lives = []
    for trigger in ("level", "edge"):
        suite = type("Suite", (ContractSuite,), {"engine": "pure-epoll", "trigger": trigger})()
        with suite.serving(Recorder, limits=muxcore.Limits(read_chunk=1000)) as run:
            peer = run.play("send 2000; pause 0.01; send 2500; shutdown-write; read-eof")
            lives.append(run.life(peer))
    assert lives[0] == lives[1]
