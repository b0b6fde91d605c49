"""The chat room with a task for each member: the other room's tests, and slow members."""

from __future__ import annotations

from collections.abc import Callable

from muxcore.testing import Peer

from .test_chat_room import (  # noqa: F401, the rooms are alike
    client,
    enter,
    test_a_line_without_an_end_ends_its_member,
    test_a_name_is_taken_once_and_free_again_after,
    test_nobody_can_control_anothers_terminal,
    test_what_one_says_all_others_read,
    test_who_goes_is_missed_however_they_go,
)

EXAMPLE = "chat_room_aio"
REQUIRES = frozenset({"guest", "shared_state"})

_LINE = b"x" * 4_000 + b"\n"


def test_a_member_who_does_not_read_is_dropped_and_holds_up_nobody(
    client: Callable[[], Peer],  # noqa: F811
    where: str,
) -> None:
    ann, bob = client(), client()
    with Peer(where, receive_buffer=4_096) as slow:
        enter(ann, "ann")
        enter(bob, "bob")
        enter(slow, "slow")
        assert ann.read_line() == b"* bob is here\n"
        for other in (ann, bob):
            assert other.read_line() == b"* slow is here\n"
        said = 0
        with bob.sock.makefile("rb") as heard:
            while True:  # in step with bob, who reads; above what the kernel holds for slow
                ann.send(_LINE)
                if (line := heard.readline()) == b"* slow has left\n":
                    break
                assert line == b"ann: " + _LINE
                said += 1
        assert ann.read_line() == b"* slow has left\n"
        assert said > 100
        assert slow.read_all().endswith(b"x\n* you do not read: good-bye\n")


def test_who_speaks_much_at_once_drops_nobody(client: Callable[[], Peer]) -> None:  # noqa: F811
    ann, bob = client(), client()
    enter(ann, "ann")
    enter(bob, "bob")
    assert ann.read_line() == b"* bob is here\n"
    ann.send(b"\n" * 10_000)
    assert bob.read(10_000 * len(b"ann: \n")) == b"ann: \n" * 10_000
    ann.send(b"the end\n")
    assert bob.read_line() == b"ann: the end\n"
