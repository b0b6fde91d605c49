"""From an address to a connection, on an engine whose clock and network the test turns by hand."""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import socket
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from muxcore import Limits
from muxcore import address as addresses
from muxcore.errors import ConnectTimeout, ServiceError
from muxcore.parts import lookups
from muxcore.parts.answers import Answers
from muxcore.parts.connecting import Connecting
from muxcore.testing import eventually

V4 = [(socket.AF_INET, (f"192.0.2.{n}", 80)) for n in range(1, 4)]
V6 = [(socket.AF_INET6, (f"2001:db8::{n}", 80, 0, 0)) for n in range(1, 4)]


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_answers", Answers(lambda: 0.0))


class Timer:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Attempt:
    def __init__(self, sockaddr: Any, done: Callable[[Any, int], object]) -> None:
        self.host = sockaddr[0]
        self.done = done
        self.cancelled = False
        self.opened = False

    def open(self, service: Any) -> None:
        self.opened = True

    def cancel(self) -> None:
        self.cancelled = True


class Engine:
    """What ``Connecting`` asks of an engine."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.connecting: dict[Connecting, None] = {}
        self.ending = False
        self.owner: int | None = threading.get_ident()
        self.attempts: list[Attempt] = []
        self.failures: list[BaseException] = []
        self.wakened = threading.Semaphore(0)
        self.now = 0.0
        self._calls: list[Callable[[], object]] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def refuse_thread(self, what: str) -> None:
        assert self.owner is None, f"{what} is called where nobody is the owner"

    def outgoing(self) -> int:
        return len(self.connecting)

    def attempt(self, family: int, sockaddr: Any, done: Callable[[Any, int], object]) -> Attempt:
        self.attempts.append(Attempt(sockaddr, done))
        return self.attempts[-1]

    @property
    def opened(self) -> list[str]:
        return [attempt.host for attempt in self.attempts if attempt.opened]

    def connect_failed(self, exc: BaseException) -> None:
        self.failures.append(exc)

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self._calls.append(lambda: call(*args))

    def call_from_thread(self, call: Callable[..., object], *args: Any) -> None:
        self.call_soon(call, *args)
        self.wakened.release()

    def alarm(self, delay: float, call: Callable[[], object]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    # -- for the tests

    def turn(self, until: float = 0.0) -> None:
        """Make the calls that are queued, and those that are due by a time, each at its own."""
        while self._calls or (self._timers and self._timers[0][0] <= until):
            if self._calls:
                self._calls.pop(0)()
                continue
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                timer.call()
        self.now = max(self.now, until)

    @property
    def tried(self) -> list[str]:
        return [attempt.host for attempt in self.attempts]


class Outcome:
    def __init__(self, heard: list[BaseException]) -> None:
        self.heard = heard

    def connection_lost(self, exc: BaseException) -> None:
        self.heard.append(exc)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def heard() -> list[BaseException]:
    return []


def connect(
    engine: Engine, heard: list[BaseException], found: Any = None, *, timeout: float = 10
) -> Connecting:
    """Connect to a name with these addresses, and wait until it is looked up."""
    with mock.patch.object(addresses, "resolve", return_value=found):
        where = addresses.parse("several.test:80")
        begun = Connecting(engine, where, lambda: Outcome(heard), timeout)
        assert engine.wakened.acquire(timeout=10)
    engine.turn()
    return begun


def test_the_families_take_turns_and_the_first_address_is_first(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, [V6[0], V6[1], V6[2], V4[0]])
    engine.turn(until=1)
    assert engine.tried == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]


def test_the_next_attempt_begins_a_quarter_of_a_second_after_the_last(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, V4)
    engine.turn(until=0.24)
    assert len(engine.tried) == 1
    engine.turn(until=0.25)
    assert len(engine.tried) == 2
    engine.turn(until=0.49)
    assert len(engine.tried) == 2
    engine.turn(until=0.5)
    assert len(engine.tried) == 3


def test_a_failure_begins_the_next_attempt_at_once_and_starts_the_quarter_anew(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, V4)
    engine.turn(until=0.2)
    engine.attempts[0].done(engine.attempts[0], errno.ECONNREFUSED)
    assert len(engine.tried) == 2
    engine.turn(until=0.25)  # when the second would have been due
    assert len(engine.tried) == 2
    engine.turn(until=0.45)
    assert len(engine.tried) == 3


def test_the_first_that_is_connected_wins_and_the_others_are_dropped(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, V4)
    engine.turn(until=0.3)
    engine.attempts[1].done(engine.attempts[1], 0)
    assert engine.opened == ["192.0.2.2"]
    assert engine.attempts[0].cancelled
    assert not engine.attempts[1].cancelled
    engine.turn(until=60)
    assert len(engine.tried) == 2
    assert not heard
    assert not engine.failures
    assert not engine.connecting


def test_the_error_names_each_address_and_why_it_would_not_do(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, [V4[0], V6[0]])
    engine.attempts[0].done(engine.attempts[0], errno.ECONNREFUSED)
    engine.attempts[1].done(engine.attempts[1], errno.ENETUNREACH)
    (exc,) = heard
    assert isinstance(exc, OSError)
    assert exc.errno == errno.ENETUNREACH
    refused, unreachable = os.strerror(errno.ECONNREFUSED), os.strerror(errno.ENETUNREACH)
    assert exc.strerror == (
        "cannot connect to several.test:80: "
        f"192.0.2.1:80: {refused}; [2001:db8::1]:80: {unreachable}"
    )
    assert engine.failures == heard
    assert not engine.connecting


def test_a_failure_is_none_while_another_attempt_is_on_its_way(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, V4[:2])
    engine.turn(until=0.25)
    engine.attempts[1].done(engine.attempts[1], errno.ECONNREFUSED)
    assert not heard
    engine.attempts[0].done(engine.attempts[0], 0)
    assert engine.opened == ["192.0.2.1"]


def test_one_deadline_holds_for_all_attempts(engine: Engine, heard: list[BaseException]) -> None:
    connect(engine, heard, V4, timeout=3)
    engine.turn(until=2.9)
    assert not heard
    engine.turn(until=3)
    (exc,) = heard
    assert isinstance(exc, TimeoutError)
    assert str(exc) == f"[Errno {errno.ETIMEDOUT}] no connection to several.test:80 within 3 s"
    assert all(attempt.cancelled for attempt in engine.attempts)


def test_what_is_cancelled_tries_no_further_address_and_tells_nobody(
    engine: Engine, heard: list[BaseException]
) -> None:
    begun = connect(engine, heard, V4)
    begun.cancel()
    begun.cancel()
    engine.turn(until=60)
    assert engine.attempts[0].cancelled
    assert len(engine.tried) == 1
    assert not heard
    assert not engine.failures
    assert not engine.connecting


def test_an_address_in_figures_needs_no_thread_and_nobody_is_told_within_the_call(
    engine: Engine, heard: list[BaseException]
) -> None:
    with mock.patch.object(lookups, "look_up", side_effect=AssertionError):
        Connecting(engine, addresses.parse("[2001:db8::7]:80"), lambda: Outcome(heard), 10)
    assert engine.tried == ["2001:db8::7"]
    assert not heard
    engine.attempts[0].done(engine.attempts[0], errno.ECONNREFUSED)
    (exc,) = heard
    refused = os.strerror(errno.ECONNREFUSED)
    assert exc.args[1] == f"cannot connect to [2001:db8::7]:80: {refused}"  # named once


@pytest.mark.parametrize("where", ["several.test:80", "[fe80::1%no-such-interface]:80"])
def test_a_name_that_cannot_be_looked_up_is_an_error_with_its_reason(
    engine: Engine, heard: list[BaseException], where: str
) -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with mock.patch.object(addresses, "resolve", side_effect=unknown):
        Connecting(engine, addresses.parse(where), lambda: Outcome(heard), 10)
        assert engine.wakened.acquire(timeout=10)
    assert not heard
    engine.turn()
    (exc,) = heard
    assert isinstance(exc, socket.gaierror)
    assert exc.strerror == f"cannot connect to {where}: Name or service not known"


def test_a_name_whose_lookup_takes_too_long_is_told_so(
    engine: Engine, heard: list[BaseException]
) -> None:
    """ "No connection" alone would send people to the upstream, not to the resolver."""
    with mock.patch.object(lookups, "look_up", return_value=None):
        Connecting(engine, addresses.parse("several.test:80"), lambda: Outcome(heard), 3)
    engine.turn(until=3)
    (exc,) = heard
    assert isinstance(exc, ConnectTimeout)
    assert str(exc).endswith("to several.test:80 within 3 s: its name is still looked up")


def test_a_name_that_was_looked_up_just_now_is_connected_to_within_the_call(
    engine: Engine, heard: list[BaseException]
) -> None:
    connect(engine, heard, [V4[0], V6[0]])
    Connecting(engine, addresses.parse("several.test:80"), lambda: Outcome(heard), 10)
    assert engine.tried == ["192.0.2.1", "192.0.2.1"]
    engine.turn(until=0.25)
    assert engine.tried[2:] == ["2001:db8::1", "2001:db8::1"]


def test_a_lookup_takes_a_quarter_of_the_time_where_the_last_answer_can_stand_in(
    engine: Engine, heard: list[BaseException]
) -> None:
    where = addresses.parse("several.test:80")
    lookups._answers.heard(where, V4)
    go_on = threading.Event()
    with mock.patch.object(addresses, "resolve", side_effect=lambda _: go_on.wait(10) and V6):
        Connecting(engine, where, lambda: Outcome(heard), 8)
        engine.turn(until=1.99)
        assert engine.tried == []
        engine.turn(until=2)
        assert engine.tried == ["192.0.2.1"]
        go_on.set()
        eventually(lambda: lookups._threads == 0, "the thread ends")
    engine.turn(until=2.3)
    assert engine.tried == ["192.0.2.1", "192.0.2.2"]  # and none of the late answer
    engine.attempts[1].done(engine.attempts[1], 0)
    assert engine.opened == ["192.0.2.2"]
    assert not heard


def test_a_time_out_at_the_last_addresses_is_none_of_the_lookup(
    engine: Engine, heard: list[BaseException]
) -> None:
    where = addresses.parse("several.test:80")
    with (
        mock.patch.object(lookups, "look_up", return_value=None),
        mock.patch.object(lookups, "late", return_value=V4),
    ):
        Connecting(engine, where, lambda: Outcome(heard), 3)
        engine.turn(until=3)
    (exc,) = heard
    assert str(exc).endswith("no connection to several.test:80 within 3 s")


def test_beyond_the_cap_and_while_the_engine_ends_nothing_is_tried(
    heard: list[BaseException],
) -> None:
    engine = Engine(Limits(connections=1))
    where = addresses.parse("192.0.2.1:80")
    for _ in range(2):
        Connecting(engine, where, lambda: Outcome(heard), 10)
    engine.turn()
    assert len(engine.tried) == 1
    (exc,) = heard
    assert exc.args[0] == errno.EAGAIN
    assert "Limits.connections" in exc.args[1]
    engine.limits, engine.ending = Limits(), True
    Connecting(engine, where, lambda: Outcome(heard), 10)
    engine.turn()
    assert isinstance(heard[1], ConnectionAbortedError)
    assert len(engine.tried) == 1


def test_a_service_without_a_protocol_is_logged_with_the_failure(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise RuntimeError("no protocol today")

    begun = Connecting(engine, addresses.parse("192.0.2.1:80"), broken, 10)
    begun.fail(ConnectionResetError("gone"))
    assert "broken" in caplog.text
    assert "gone" in caplog.text
    assert "no protocol today" in caplog.text


@pytest.mark.parametrize("service", [None, "Echo"])
def test_what_is_no_service_is_refused_before_the_engine_knows_of_it(
    engine: Engine, service: Any
) -> None:
    with pytest.raises(ServiceError, match="a service is"):
        Connecting(engine, addresses.parse("192.0.2.1:80"), service, 10)
    assert not engine.connecting


def test_what_is_asked_for_before_the_engine_runs_begins_with_it_and_so_does_its_deadline(
    engine: Engine, heard: list[BaseException]
) -> None:
    engine.owner = None
    Connecting(engine, addresses.parse("192.0.2.1:80"), lambda: Outcome(heard), 10)
    cancelled = Connecting(engine, addresses.parse("192.0.2.2:80"), lambda: Outcome(heard), 10)
    cancelled.cancel()
    assert not engine.attempts
    engine.now = 100.0
    engine.turn(until=100.0)
    assert engine.tried == ["192.0.2.1"]
    engine.turn(until=109.9)
    assert not heard
    engine.turn(until=110.0)
    assert isinstance(heard[0], TimeoutError)


def test_a_unix_socket_whose_backlog_is_full_is_tried_again_until_it_has_room(
    engine: Engine, heard: list[BaseException]
) -> None:
    Connecting(engine, addresses.parse("unix:/run/full.sock"), lambda: Outcome(heard), 10)
    for number in range(3):
        engine.attempts[number].done(engine.attempts[number], errno.EAGAIN)
        assert len(engine.attempts) == number + 1  # not at once: it would spin
        engine.turn(until=0.05 * (number + 1))
    engine.attempts[3].done(engine.attempts[3], 0)
    assert len(engine.opened) == 1
    assert not heard


def test_a_unix_socket_whose_backlog_stays_full_is_given_up_at_the_deadline(
    engine: Engine, heard: list[BaseException]
) -> None:
    Connecting(engine, addresses.parse("unix:/run/full.sock"), lambda: Outcome(heard), 0.1)
    engine.attempts[0].done(engine.attempts[0], errno.EAGAIN)
    engine.turn(until=0.06)
    engine.attempts[1].done(engine.attempts[1], errno.EAGAIN)
    engine.turn(until=60)
    assert isinstance(heard[0], TimeoutError)
    assert len(engine.attempts) == 2


def test_at_a_tcp_address_the_same_error_is_one(engine: Engine, heard: list[BaseException]) -> None:
    Connecting(engine, addresses.parse("192.0.2.1:80"), lambda: Outcome(heard), 10)
    engine.attempts[0].done(engine.attempts[0], errno.EAGAIN)
    assert len(heard) == 1
