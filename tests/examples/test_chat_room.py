"""The chat room."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from muxcore.testing import Peer
from muxcore.testing.peer import DEADLINE

EXAMPLE = "chat_room"
REQUIRES = frozenset({"shared_state"})


@pytest.fixture
def client(example: Callable[[], Peer]) -> Callable[[], Peer]:
    """What connects a client, once the members of the test before are gone."""
    until = time.monotonic() + DEADLINE
    while True:
        with example() as visitor:
            here = visitor.read_line()
        if here.startswith(b"* here: nobody"):
            return example
        assert time.monotonic() < until, f"the members of the test before stayed: {here!r}"


def enter(peer: Peer, name: str) -> None:
    assert peer.read_line().endswith(b"what is your name?\n")
    peer.send(f"{name}\n".encode())
    assert peer.read_line() == f"* welcome, {name}\n".encode()


def test_what_one_says_all_others_read(client: Callable[[], Peer]) -> None:
    ann, bob, eve = client(), client(), client()
    enter(ann, "ann")
    enter(bob, "bob")
    enter(eve, "eve")
    assert ann.read_line() == b"* bob is here\n"
    assert ann.read_line() == b"* eve is here\n"
    assert bob.read_line() == b"* eve is here\n"
    bob.send(b"hello\nall\n")
    for other in (ann, eve):
        assert other.read_line() == b"bob: hello\n"
        assert other.read_line() == b"bob: all\n"
    ann.send(b"hello bob\n")
    assert bob.read_line() == b"ann: hello bob\n"  # and nothing that he said himself


def test_who_goes_is_missed_however_they_go(client: Callable[[], Peer]) -> None:
    ann, bob, eve = client(), client(), client()
    enter(ann, "ann")
    enter(bob, "bob")
    enter(eve, "eve")
    assert ann.read_line() == b"* bob is here\n"
    assert ann.read_line() == b"* eve is here\n"
    bob.close()
    assert ann.read_line() == b"* bob has left\n"
    eve.reset()
    assert ann.read_line() == b"* eve has left\n"


def test_a_name_is_taken_once_and_free_again_after(client: Callable[[], Peer]) -> None:
    ann, other = client(), client()
    enter(ann, "ann")
    assert other.read_line().endswith(b"what is your name?\n")
    for name, answer in [
        (b"ann", b"* somebody is ann already\n"),
        (b"", b"* a name has 1 to 20 characters\n"),
        (b"x" * 21, b"* a name has 1 to 20 characters\n"),
    ]:
        other.send(name + b"\n")
        assert other.read_line() == answer
    other.send(b"bob\n")
    assert other.read_line() == b"* welcome, bob\n"
    ann.close()
    assert other.read_line() == b"* ann has left\n"
    enter(client(), "ann")


def test_nobody_can_control_anothers_terminal(client: Callable[[], Peer]) -> None:
    ann, bob = client(), client()
    enter(ann, "ann")
    enter(bob, "bob")
    bob.send("\x1b[2Jwhat?\x07 \u202e\n".encode())
    ann.read_line()
    assert ann.read_line() == b"bob: [2Jwhat? \n"


def test_a_line_without_an_end_ends_its_member(client: Callable[[], Peer]) -> None:
    ann, bob = client(), client()
    enter(ann, "ann")
    enter(bob, "bob")
    bob.send(b"x" * 4_097)
    bob.read_end()
    ann.read_line()
    assert ann.read_line() == b"* bob has left\n"
