"""Looking names up: few threads, none of which a silent name keeps from the others."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from muxcore import address as addresses
from muxcore._seldom import EVERY, Seldom
from muxcore.address import Address
from muxcore.parts import dispatch, lookups
from muxcore.parts.answers import FRESH, KEPT, Answers
from muxcore.testing import eventually
from muxcore.testing.peer import DEADLINE

V4 = [(socket.AF_INET, ("192.0.2.1", 80))]
MOVED = [(socket.AF_INET, ("192.0.2.2", 80))]
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Nothing is known yet, and time passes when a test says so."""
    clock = Clock()
    monkeypatch.setattr(lookups, "_answers", Answers(clock))
    monkeypatch.setattr(lookups, "_seldom", Seldom(dispatch.logger.warning, clock))
    return clock


class Resolver:
    """A resolver that answers when a test lets it; ``silent`` names it does not answer."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.silent: set[str] = set()
        self.answers: Any = V4  # or an error
        self.asked: Counter[str] = Counter()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def resolve(self, where: Address, *, passive: bool = False) -> Any:
        with self._lock:
            self.asked[where.host] += 1
            self.running += 1
            self.most = max(self.most, self.running)
        if where.host in self.silent:
            assert self.go_on.wait(DEADLINE)
        with self._lock:
            self.running -= 1
        if isinstance(self.answers, OSError):
            raise self.answers
        return self.answers


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    with mock.patch.object(addresses, "resolve", resolver.resolve):
        yield resolver
        resolver.go_on.set()
        eventually(lambda: lookups._threads == 0, "the threads end")


class Asker:
    """Somebody who asks for names and waits for what he is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self._heard = threading.Semaphore(0)

    def ask(self, host: str, port: int = 80) -> Any:
        def told(found: Any) -> None:
            self.told.append(found)
            self._heard.release()

        known = lookups.look_up(Address(host, port), told)
        if known is not None:
            told(known)
        return told

    def wait(self, count: int = 1) -> list[Any]:
        for _ in range(count):
            assert self._heard.acquire(timeout=DEADLINE)
        return self.told


def test_a_silent_name_keeps_one_thread_and_no_other_name_waits(resolver: Resolver) -> None:
    resolver.silent = {"silent.test"}
    silent, other = Asker(), Asker()
    for number in range(10 * lookups.THREADS):
        silent.ask("silent.test", 80 + number % 5)  # whatever ports of it are asked for
    eventually(lambda: resolver.asked["silent.test"] == 1, "it is looked up")
    other.ask("other.test")
    assert other.wait() == [V4]
    assert resolver.asked["silent.test"] == 1
    assert not silent.told


def test_who_asks_for_the_same_waits_for_one_answer(resolver: Resolver) -> None:
    resolver.silent = {"one.test"}
    asker = Asker()
    with mock.patch.object(threading, "Thread", wraps=threading.Thread) as threads:
        for _ in range(20):
            asker.ask("one.test")
    assert threads.call_count == 1
    eventually(lambda: resolver.asked["one.test"] == 1, "it is looked up")
    resolver.go_on.set()
    assert asker.wait(20) == [V4] * 20
    assert resolver.asked["one.test"] == 1


def test_every_port_of_a_name_is_looked_up_in_the_end(resolver: Resolver) -> None:
    resolver.silent = {"one.test"}
    asker = Asker()
    for port in range(80, 85):
        asker.ask("one.test", port)
    resolver.go_on.set()
    assert asker.wait(5) == [V4] * 5
    assert (resolver.asked["one.test"], resolver.most) == (5, 1)


def test_names_are_looked_up_by_so_many_threads_and_no_more(resolver: Resolver) -> None:
    names = [f"host-{number}.test" for number in range(3 * lookups.THREADS)]
    resolver.silent = set(names)
    asker = Asker()
    asked = [asker.ask(name) for name in names]
    eventually(lambda: resolver.running == lookups.THREADS, "the threads are at it")
    lookups.forget(Address(names[-1], 80), asked[-1])  # it still waits: it is not even looked up
    resolver.go_on.set()
    asker.wait(len(names) - 1)
    eventually(lambda: lookups._threads == 0, "the threads end")
    assert resolver.most == lookups.THREADS
    assert resolver.asked[names[-1]] == 0


def test_who_does_not_want_to_know_any_more_is_not_told(resolver: Resolver) -> None:
    resolver.silent = {"one.test"}
    gone, stays = Asker(), Asker()
    told = gone.ask("one.test")
    stays.ask("one.test")
    lookups.forget(Address("one.test", 80), told)
    lookups.forget(Address("one.test", 80), told)  # harmless
    resolver.go_on.set()
    assert stays.wait() == [V4]
    assert gone.told == []


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (UnicodeError("label too long"), "UnicodeError: label too long"),
        (RuntimeError("a resolver's fault"), "RuntimeError: a resolver's fault"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_whatever_a_resolver_raises_is_an_answer_and_costs_no_thread(
    raised: BaseException, text: str
) -> None:
    asker = Asker()
    with mock.patch.object(addresses, "resolve", side_effect=raised):
        for number in range(2 * lookups.THREADS):
            asker.ask(f"host-{number}.test")
        asker.wait(2 * lookups.THREADS)
    assert {str(exc) for exc in asker.told} == {f"[Errno {errno.EIO}] {text}"}
    eventually(lambda: lookups._threads == 0, "the threads end")


def test_one_who_fails_when_he_is_told_keeps_nothing_from_the_others(
    resolver: Resolver, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(found: Any) -> None:
        raise LookupError("not now")

    resolver.silent = {"one.test"}
    asker = Asker()
    lookups.look_up(Address("one.test", 80), fails)
    asker.ask("one.test")
    resolver.go_on.set()
    assert asker.wait() == [V4]
    assert "not now" in caplog.text


def test_a_thread_that_cannot_be_started_fails_that_lookup_alone(resolver: Resolver) -> None:
    asker = Asker()
    no_more = mock.patch.object(
        threading.Thread, "start", side_effect=RuntimeError("can't start new thread")
    )
    with no_more:
        for number in range(2 * lookups.THREADS):
            asker.ask(f"host-{number}.test")
    assert all(exc.errno == errno.EAGAIN for exc in asker.wait(2 * lookups.THREADS))
    assert "can't start new thread" in str(asker.told[0])
    later = Asker()
    later.ask("later.test")
    assert later.wait() == [V4]


@pytest.mark.parametrize("where", [Address("a..b", 1), Address("a" * 70, 1)], ids=repr)
def test_a_name_that_cannot_be_one_is_an_error_with_its_reason(where: Address) -> None:
    with pytest.raises(socket.gaierror, match="it is no name and port"):
        addresses.resolve(where)


def test_a_forked_child_looks_up_with_threads_of_its_own(resolver: Resolver) -> None:
    resolver.silent = {"silent.test"}
    asker = Asker()
    asker.ask("silent.test")
    eventually(lambda: resolver.running == 1, "a thread is at it")
    lookups._answers.heard(Address("known.test", 80), V4)
    before = lookups._lock, lookups._threads, dict(lookups._waiting), dict(lookups._begun)
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, *before)
        lookups._forget_threads()
        assert lookups._threads == 0
        assert not lookups._waiting
        assert len(lookups._answers) == 0
        child = Asker()
        child.ask("other.test")
        assert child.wait() == [V4]
        eventually(lambda: lookups._threads == 0, "its thread ends")


def _restore(lock: Any, threads: int, waiting: Any, begun: Any) -> None:
    lookups._lock, lookups._threads = lock, threads
    lookups._waiting.update(waiting)
    lookups._begun.update(begun)


def _known(resolver: Resolver, host: str = "db.test") -> None:
    """Let a name be looked up once, well."""
    asker = Asker()
    asker.ask(host)
    assert asker.wait() == [V4]
    eventually(lambda: lookups._threads == 0, "the thread ends")


def test_a_thousand_who_come_within_a_second_need_one_lookup(
    resolver: Resolver, clock: Clock
) -> None:
    _known(resolver)
    asker = Asker()
    for _ in range(1_000):
        clock.now += FRESH / 1_001
        asker.ask("db.test")
    assert asker.wait(1_000) == [V4] * 1_000
    assert resolver.asked["db.test"] == 1


def test_what_dns_says_is_seen_after_a_second(resolver: Resolver, clock: Clock) -> None:
    _known(resolver)
    resolver.answers = MOVED
    clock.now += FRESH
    asker = Asker()
    asker.ask("db.test")
    assert asker.wait() == [MOVED]


def test_while_the_resolver_fails_the_last_answer_is_used_and_seldom_told_of(
    resolver: Resolver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _known(resolver)
    resolver.answers = AGAIN
    asker = Asker()
    for second in range(1, 10):
        clock.now += FRESH
        asker.ask("db.test")
        assert asker.wait()[-1] == V4
        eventually(lambda: lookups._threads == 0, "it is looked up beside")
        assert resolver.asked["db.test"] == 1 + second
    told = "db.test:80 cannot be looked up: Temporary failure in name resolution; its last"
    assert caplog.text.count(told) == 1
    clock.now += EVERY
    asker.ask("db.test")
    eventually(lambda: "and 8 more before it were not told" in caplog.text, "it is told again")


def test_a_name_that_was_never_known_fails_as_it_does(resolver: Resolver) -> None:
    resolver.answers = AGAIN
    asker = Asker()
    asker.ask("db.test")
    assert asker.wait() == [AGAIN]


def test_a_name_that_has_no_address_any_more_fails_though_it_had_one(
    resolver: Resolver, clock: Clock
) -> None:
    _known(resolver)
    clock.now += FRESH
    resolver.answers = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    asker = Asker()
    asker.ask("db.test")
    assert asker.wait() == [resolver.answers]


def test_an_answer_of_more_than_an_hour_ago_is_none(resolver: Resolver, clock: Clock) -> None:
    _known(resolver)
    clock.now += KEPT
    resolver.answers = AGAIN
    asker = Asker()
    asker.ask("db.test")
    assert asker.wait() == [AGAIN]


def test_who_is_late_gets_the_last_answer_once_and_those_after_him_do_not_wait(
    resolver: Resolver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _known(resolver)
    resolver.silent = {"db.test"}
    clock.now += FRESH
    waits, after, where = Asker(), Asker(), Address("db.test", 80)
    told = waits.ask("db.test")
    assert lookups.late(where, told) == V4
    assert lookups.late(where, told) is None  # he has it
    assert "db.test:80 is not looked up yet: its last addresses are used" in caplog.text
    after.ask("db.test")
    assert after.told == [V4]
    assert resolver.asked["db.test"] <= 2  # all this time it is looked up once more
    resolver.answers = MOVED
    resolver.go_on.set()
    eventually(lambda: lookups._threads == 0, "the thread ends")
    assert (waits.told, after.told) == ([], [V4])  # nobody hears twice
    now = Asker()
    now.ask("db.test")
    assert now.told == [MOVED]


def test_who_is_late_waits_on_where_nothing_is_known(resolver: Resolver) -> None:
    resolver.silent = {"db.test"}
    asker = Asker()
    told = asker.ask("db.test")
    assert lookups.late(Address("db.test", 80), told) is None
    resolver.go_on.set()
    assert asker.wait() == [V4]


def test_a_name_that_waits_for_a_thread_is_looked_up_though_all_have_its_last_answer(
    resolver: Resolver, clock: Clock
) -> None:
    """All threads are at silent names: it waits, with nobody to be told."""
    _known(resolver)
    clock.now += FRESH
    names = [f"host-{number}.test" for number in range(lookups.THREADS)]
    resolver.silent = set(names)
    others, asker = Asker(), Asker()
    for name in names:
        others.ask(name)
    eventually(lambda: resolver.running == lookups.THREADS, "the threads are at it")
    assert lookups.late(Address("db.test", 80), asker.ask("db.test")) == V4
    resolver.answers = MOVED
    resolver.go_on.set()
    others.wait(len(names))
    eventually(lambda: lookups._threads == 0, "the threads end")
    asker.ask("db.test")
    assert asker.told == [MOVED]


def test_without_a_thread_the_last_answer_is_used(resolver: Resolver, clock: Clock) -> None:
    _known(resolver)
    clock.now += FRESH
    asker = Asker()
    no_more = RuntimeError("can't start new thread")
    with mock.patch.object(threading.Thread, "start", side_effect=no_more):
        asker.ask("db.test")
    assert asker.wait() == [V4]
