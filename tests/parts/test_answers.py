"""What a name meant: for how long that is used again, and when it stands in for a lookup."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from muxcore.address import Address
from muxcore.parts import answers
from muxcore.parts.answers import DOUBT, FRESH, KEPT, MOST, NAMES, Answers

DB = Address("db.test", 80)
ONE = [(socket.AF_INET, ("192.0.2.1", 80))]
MOVED = [(socket.AF_INET, ("192.0.2.2", 80))]
BOTH = [*ONE, (socket.AF_INET6, ("2001:db8::1", 80, 0, 0))]
SEVERAL = [*ONE, *MOVED]
_NODATA = getattr(socket, "EAI_NODATA", socket.EAI_NONAME)  # not every system tells them apart
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Answers:
    return Answers(clock)


@pytest.mark.parametrize("found", [ONE, BOTH], ids=["one", "one-of-each-family"])
def test_an_answer_is_used_again_for_a_second(known: Answers, clock: Clock, found: Any) -> None:
    assert known.now(DB) == (None, True)
    assert known.heard(DB, found) is found
    clock.now += FRESH - 0.001
    assert known.now(DB) == (found, False)
    assert known.now(Address("db.test", 81)) == (None, True)  # another port: another sockaddr
    clock.now += 0.001
    assert known.now(DB) == (None, True)


def test_several_addresses_are_asked_for_each_time_for_the_resolver_turns_them(
    known: Answers,
) -> None:
    known.heard(DB, SEVERAL)
    assert known.now(DB) == (None, True)


@pytest.mark.parametrize(
    "failure",
    [
        AGAIN,
        socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
        socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"),
        OSError(errno.EMFILE, "Too many open files"),  # EAI_SYSTEM, as Python tells it
        OSError(errno.EAGAIN, "no thread can be started to look it up"),
    ],
    ids=lambda exc: f"{type(exc).__name__}{exc.errno}",
)
@pytest.mark.parametrize("found", [ONE, SEVERAL], ids=["one", "several"])
def test_a_failure_that_says_nothing_of_the_name_leaves_the_last_answer_for_an_hour(
    known: Answers, clock: Clock, failure: OSError, found: Any
) -> None:
    assert known.heard(DB, failure) is failure  # nothing is known yet
    known.heard(DB, found)
    clock.now += KEPT - 1
    assert known.heard(DB, failure) == found
    clock.now += 1
    assert known.heard(DB, failure) is failure
    assert known.now(DB) == (None, True)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, _NODATA, socket.EAI_FAMILY])
def test_an_answer_that_the_name_has_none_is_believed_at_once_and_for_good(
    known: Answers, clock: Clock, code: int
) -> None:
    known.heard(DB, ONE)
    clock.now += FRESH
    gone = socket.gaierror(code, "Name or service not known")
    assert known.heard(DB, gone) is gone
    assert known.heard(DB, AGAIN) is AGAIN  # what it was before does not come back
    assert known.late(DB) is None


def test_a_failing_resolver_is_asked_once_a_second_and_nobody_waits_for_it(
    known: Answers, clock: Clock
) -> None:
    known.heard(DB, ONE)
    clock.now += 60
    known.heard(DB, AGAIN)
    assert known.now(DB) == (ONE, False)
    clock.now += FRESH
    assert known.now(DB) == (ONE, True)
    clock.now += DOUBT  # it may have recovered long ago: the next one waits for what it says
    assert known.now(DB) == (None, True)


def test_while_a_lookup_is_late_nobody_waits_for_it(known: Answers, clock: Clock) -> None:
    assert known.late(DB) is None
    known.heard(DB, SEVERAL)
    clock.now += 60
    assert known.late(DB) == SEVERAL
    assert known.now(DB) == (SEVERAL, True)
    clock.now += DOUBT
    assert known.now(DB) == (None, True)


def test_doubts_end_with_the_next_good_answer(known: Answers, clock: Clock) -> None:
    known.heard(DB, ONE)
    clock.now += 60
    known.late(DB)
    known.heard(DB, MOVED)
    assert known.now(DB) == (MOVED, False)
    clock.now += FRESH
    assert known.now(DB) == (None, True)


def test_doubts_do_not_make_an_answer_older_than_an_hour(known: Answers, clock: Clock) -> None:
    known.heard(DB, ONE)
    clock.now += KEPT - 0.5
    known.heard(DB, AGAIN)
    assert known.now(DB) == (ONE, False)
    clock.now += 0.5
    assert known.now(DB) == (None, True)
    assert known.late(DB) is None


def test_so_many_names_are_kept_and_the_one_heard_of_longest_ago_goes_first(
    known: Answers,
) -> None:
    known.heard(DB, ONE)
    for number in range(NAMES - 1):
        known.heard(Address(f"host-{number}.test", 80), ONE)
    known.heard(DB, ONE)  # it is in use
    for number in range(NAMES - 1):
        known.heard(Address(f"other-{number}.test", 80), ONE)
    assert known.late(DB) == ONE
    assert known.late(Address(f"host-{NAMES - 2}.test", 80)) is None
    assert len(known) == NAMES


def test_of_many_addresses_those_are_kept_that_would_be_tried(known: Answers) -> None:
    """Whoever answers for a name says how many there are."""
    many = [(socket.AF_INET, (f"192.0.2.{number}", 80)) for number in range(2 * MOST)]
    assert known.heard(DB, many) is many
    assert known.late(DB) == many[:MOST]


def test_the_numbers_are_in_order() -> None:
    assert 0 < answers.FRESH < answers.DOUBT < answers.KEPT
