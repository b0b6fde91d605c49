"""A channel: words, details, and descriptors, however many."""

from __future__ import annotations

import contextlib
import os

import pytest

from muxcore.parts.channel import Channel


def test_a_message_has_as_many_descriptors_as_there_are() -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    one = os.memfd_create("one")
    given = {f"number {number}": one for number in range(600)}  # SCM_MAX_FD is 253
    with contextlib.closing(ours), contextlib.closing(other):
        assert ours.send("all", given, more=True)
        assert ours.send("next")
        message = other.receive()
        assert message is not None
        got = message.descriptors
        assert (message.word, message.details, list(got)) == ("all", {"more": True}, list(given))
        assert {os.fstat(fd).st_ino for fd in got.values()} == {os.fstat(one).st_ino}
        assert not any(os.get_inheritable(fd) for fd in got.values())
        for fd in got.values():
            os.close(fd)
        following = other.receive()
        assert following is not None
        assert (following.word, following.descriptors) == ("next", {})
        with pytest.raises(BlockingIOError):
            other.receive()
    os.close(one)
