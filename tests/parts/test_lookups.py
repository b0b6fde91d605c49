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
from muxcore.address import Address
from muxcore.parts import lookups
from muxcore.testing import eventually
from muxcore.testing.peer import DEADLINE

V4 = [(socket.AF_INET, ("192.0.2.1", 80))]


class Resolver:
    """A resolver that answers when a test lets it; ``silent`` names it does not answer."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.silent: set[str] = set()
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
        return V4


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

        lookups.look_up(Address(host, port), told)
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
    for _ in range(20):
        asker.ask("one.test")
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
    before = lookups._lock, lookups._threads, dict(lookups._waiting), dict(lookups._begun)
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, *before)
        lookups._forget_threads()
        assert lookups._threads == 0
        assert not lookups._waiting
        child = Asker()
        child.ask("other.test")
        assert child.wait() == [V4]
        eventually(lambda: lookups._threads == 0, "its thread ends")


def _restore(lock: Any, threads: int, waiting: Any, begun: Any) -> None:
    lookups._lock, lookups._threads = lock, threads
    lookups._waiting.update(waiting)
    lookups._begun.update(begun)
