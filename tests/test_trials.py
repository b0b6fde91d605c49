"""Connections on trial: who is ejected, how long, and who comes back; the clock is the test's."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest

import muxcore
from muxcore._seldom import EVERY
from muxcore.errors import FirstByteTimeout, passed_on
from muxcore.pool import FIRST_PAUSE, Pool, Trial, Upstream
from muxcore.pool.trials import LOOKS

BROKEN = "before its first byte: Connection reset by peer"
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Transport:
    """The upstream's connection."""

    def __init__(self) -> None:
        self.bytes = (0, 0)  # received, sent
        self.first = False
        self.ended: BaseException | None = None

    def get_extra_info(self, name: str) -> tuple[int, int]:
        assert name == "bytes"
        return self.bytes

    def ended_first(self) -> bool:
        return self.first

    def _fail(self, exc: BaseException) -> None:
        self.ended = exc


class Trying:
    """A pool, and clients that are joined with its upstreams."""

    def __init__(self, *names: str, **options: Any) -> None:
        self.clock = Clock()
        options = {"eject_after": 2, "max_ejected": 1.0} | options
        self.pool = Pool(*names, clock=self.clock, spread=lambda: 0.5, **options)
        assert self.pool.trials is not None
        self.trials = self.pool.trials

    def joined(self, name: str) -> tuple[Trial, Transport]:
        """A client that is joined with this one; those on the way to it get others."""
        others: list[Upstream] = []
        while (taken := self.pool.take()) is not None and taken.name != name:
            others.append(taken)
            assert len(others) < 20, f"{name} gets nobody"
        for each in others:
            self.pool.left(each)
        assert taken is not None
        self.pool.connected(taken)
        transport = Transport()
        return self.trials.begin(taken, transport, self.clock.now), transport

    def fares(self, name: str, how: str, sent: int = 1) -> None:
        """One client's connection, from its begin to its end."""
        trial, transport = self.joined(name)
        transport.bytes = (1 if how == "answered" else 0, sent)
        transport.first = how == "closed"
        trial.connection_lost(RESET if how == "reset" else None)

    def state(self, name: str) -> str:
        return self.pool.stats()[name].state


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_failures_in_a_row_eject_an_upstream(how: str) -> None:
    trying = Trying("a:1", "b:1")
    trying.fares("a:1", how)
    trying.fares("a:1", "answered")
    trying.fares("a:1", how)
    assert trying.state("a:1") == "up"
    trying.fares("b:1", how)
    trying.fares("a:1", how)
    assert (trying.state("a:1"), trying.state("b:1")) == ("ejected", "up")
    stats = trying.pool.stats()["a:1"]
    assert (stats.unanswered, stats.failed, stats.active) == (3, 0, 0)
    assert abs(stats.rests_for - FIRST_PAUSE) < 1e-6


@pytest.mark.parametrize(
    ("exc", "first", "sent"),
    [
        (None, True, 0),  # it was closed, and nobody had asked
        (None, False, 9),  # the client went
        (passed_on(RESET), False, 9),  # the client was reset
        (muxcore.IdleTimeout(1), False, 9),
        (muxcore.Stopped(), False, 9),
    ],
)
def test_what_shows_nothing_is_not_counted(
    exc: BaseException | None, first: bool, sent: int
) -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    trial, transport = trying.joined("a:1")
    transport.bytes, transport.first = (0, sent), first
    trial.connection_lost(exc)
    assert trying.state("a:1") == "up"
    assert trying.pool.stats()["a:1"].unanswered == 0
    assert trying.pool.stats()["a:1"].active == 0


def test_what_went_before_the_clients_bytes_is_no_question() -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    taken = trying.pool.upstreams[0]
    for sent, state in ((28, "up"), (29, "ejected")):
        transport = Transport()
        transport.bytes, transport.first = (0, sent), True
        taken.active += 1
        trying.trials.begin(taken, transport, 1000.0, before=28).connection_lost(None)
        assert trying.state("a:1") == state


def test_a_success_that_began_before_the_failures_does_not_undo_them() -> None:
    trying = Trying("a:1", "b:1")
    old, transport = trying.joined("a:1")
    trying.clock.now += 1
    trying.fares("a:1", "reset")
    transport.bytes = (1, 1)
    old.connection_lost(None)
    trying.fares("a:1", "reset")
    assert trying.state("a:1") == "ejected"


def test_one_that_is_ejected_is_back_when_a_client_was_answered_and_not_before() -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    old, _ = trying.joined("a:1")
    trying.clock.now += 1
    trying.fares("a:1", "reset")
    pause = FIRST_PAUSE
    for _ in range(3):
        trying.clock.now += pause
        trial, _ = trying.joined("a:1")
        assert trying.state("a:1") == "probing"  # that it took a connection shows nothing
        assert trying.pool.take() is trying.pool.upstreams[1]
        trial.connection_lost(RESET)
        pause *= 2
        assert trying.state("a:1") == "ejected"
        assert abs(trying.pool.stats()["a:1"].rests_for - pause) < 1e-6
    old.connection_lost(RESET)  # it came before all that
    assert abs(trying.pool.stats()["a:1"].rests_for - pause) < 1e-6
    trying.clock.now += pause
    trying.fares("a:1", "answered")
    assert trying.state("a:1") == "up"
    trying.fares("a:1", "reset")
    assert abs(trying.pool.stats()["a:1"].rests_for - FIRST_PAUSE) < 1e-6


def test_a_probe_that_shows_nothing_leaves_the_next_client_to_be_one() -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    trying.fares("a:1", "reset")
    trying.clock.now += FIRST_PAUSE
    trying.fares("a:1", "the client goes")
    assert trying.state("a:1") == "ejected"
    trying.fares("a:1", "answered")
    assert trying.state("a:1") == "up"


def test_a_probe_is_looked_at_and_answers_while_it_lasts() -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    begun: list[Trial] = []
    trying.trials.on_begun = begun.append
    trying.fares("a:1", "reset")
    assert begun == []
    trying.clock.now += FIRST_PAUSE
    quiet, transport = trying.joined("a:1")
    assert [quiet.look() for _ in range(LOOKS + 1)] == [True] * (LOOKS + 1)
    lively, _ = trying.joined("a:1")  # the first says nothing: this one is a probe, too
    assert begun == [quiet, lively]
    transport.bytes = (1, 1)
    assert not quiet.look()
    assert trying.state("a:1") == "up"


def test_the_first_byte_is_late_after_the_limit_without_a_byte() -> None:
    trying = Trying("a:1", "b:1", eject_after=1, first_byte_timeout=8)
    begun: list[Trial] = []
    trying.trials.on_begun = begun.append
    trial, transport = trying.joined("a:1")
    assert begun == [trial]
    for _ in range(3 * LOOKS):  # nobody asks
        assert trial.look()
    for sent in range(1, 20):  # it is being asked
        transport.bytes = (0, sent)
        assert trial.look()
    for _ in range(LOOKS - 1):
        assert trial.look()
    assert transport.ended is None
    assert not trial.look()
    assert isinstance(transport.ended, FirstByteTimeout)
    assert "no byte came from a:1 for 8 s" in str(transport.ended)
    assert trying.state("a:1") == "ejected"
    trial.connection_lost(transport.ended)
    assert trying.pool.stats()["a:1"].unanswered == 1
    assert trying.pool.stats()["a:1"].active == 0
    assert not trial.look()


def test_one_that_has_answered_is_not_looked_at_again() -> None:
    trying = Trying("a:1", first_byte_timeout=8)
    trial, transport = trying.joined("a:1")
    assert trial.look()
    transport.bytes = (1, 0)
    assert not trial.look()
    trial.connection_lost(RESET)
    assert trying.pool.stats()["a:1"].unanswered == 0


@pytest.mark.parametrize(
    ("names", "share", "most"),
    [
        (("a:1",), 1.0, 0),
        (("a:1", "b:1"), 0.01, 1),
        (("a:1", "b:1"), 1.0, 1),
        (("a:1", "b:1", "c:1", "d:1"), 0.5, 2),
        (("a:1", "b:1", "c:1", "d:1"), 0.74, 2),
        (("a:1", "b:1", "c:1", "d:1"), 1.0, 3),
    ],
)
def test_so_many_are_ejected_at_once_and_never_the_last(
    names: tuple[str, ...], share: float, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    trying = Trying(*names, eject_after=1, max_ejected=share)
    for name in names:
        trying.fares(name, "reset")
    assert [trying.state(name) for name in names].count("ejected") == most
    assert len([r for r in caplog.records if "is not ejected" in r.message]) == 1
    for _ in range(100):
        trying.fares(names[-1], "reset")
    trying.clock.now += EVERY
    trying.fares(names[-1], "reset")
    told = [r.getMessage() for r in caplog.records if "is not ejected" in r.message]
    assert len(told) == 2
    assert f"and {99 + len(names) - most} more" in told[1]


def test_the_last_one_up_is_not_ejected_where_others_rest() -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    taken = trying.pool.take()
    assert isinstance(taken, Upstream)
    trying.pool.failed(taken, trying.clock.now, "refused")
    trying.fares("b:1", "reset")
    assert (trying.state("a:1"), trying.state("b:1")) == ("resting", "up")


def test_the_log_tells_of_it(caplog: pytest.LogCaptureFixture) -> None:
    trying = Trying("a:1", "b:1", eject_after=1)
    with caplog.at_level(logging.WARNING, "muxcore.relay"):
        trying.fares("a:1", "reset")
        trying.clock.now += FIRST_PAUSE
        trying.fares("a:1", "closed")
        trying.clock.now += 2 * FIRST_PAUSE
        trying.fares("a:1", "answered")
    assert [record.getMessage() for record in caplog.records] == [
        "upstream a:1 is ejected for 0.5 s: 1 in a row without an answer; the last: " + BROKEN,
        "upstream a:1 stays ejected for 1 s: it was closed before its first byte",
        "upstream a:1 is back",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"eject_after": 0}, "eject_after must be a whole number from 1"),
        ({"eject_after": True}, "eject_after must be a whole number"),
        ({"first_byte_timeout": 0}, "first_byte_timeout must be above 0"),
        ({"first_byte_timeout": -1}, "first_byte_timeout needs seconds of at least 0"),
        ({"first_byte_timeout": "5"}, "first_byte_timeout needs a number of seconds"),
        ({"max_ejected": 0}, "max_ejected must be a share above 0"),
        ({"max_ejected": 50}, "max_ejected must be a share above 0"),
        ({"max_ejected": "50%"}, "max_ejected must be a share above 0"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        Pool("a:1", **options)


def test_a_pool_without_such_limits_puts_nobody_on_trial() -> None:
    assert Pool("a:1").trials is None
    assert Pool("a:1").requires == frozenset()
    assert Pool("a:1", eject_after=1).requires == {"timers"}
