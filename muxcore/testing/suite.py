"""What the suites stand on: an engine under test, a server of it, and peers.

A third party proves an engine with two classes, run by pytest::

    class TestContract(muxcore.testing.ContractSuite):
        engine = "mine"

    class TestSurvival(muxcore.testing.SurvivalSuite):
        engine = "mine"

and, where it has ``edge_trigger``, two more with ``trigger = "edge"``; where it can be a ``guest``,
two more with ``host = "asyncio"``. A scenario is skipped only for a capability that the engine says
it lacks. Each one leaves nothing behind: no descriptor, thread, child or open connection; that is
part of what is tested.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

import muxcore
from muxcore.testing.hosted import HOSTS, HostedServer, is_here
from muxcore.testing.peer import DEADLINE, Peer
from muxcore.testing.recorder import Event, Journal, Journaled, key_of
from muxcore.testing.upstream import Upstream

T = TypeVar("T")

LACKS = "the engine {engine} has no {capability}"
"""The reason of every skip, but those for want of descriptors."""


class Run:
    """One server at work, with its journal and its peers."""

    def __init__(self, server: muxcore.Server, journal: Journal) -> None:
        self.server = server
        self.journal = journal
        self._peers: list[Peer] = []

    @property
    def address(self) -> str:
        return self.server.addresses[0]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the engine between two turns: what happens meanwhile is all news of the next one."""
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            holding.set()
            release.wait(DEADLINE)

        self.server.call_soon_threadsafe(hold)
        assert holding.wait(DEADLINE), f"the engine made no call within {DEADLINE:g} s"
        try:
            yield
        finally:
            release.set()

    def connect(self, **options: Any) -> Peer:
        """Connect a peer, which is closed when the scenario ends; options as of ``Peer``."""
        return self.keep(Peer(self.address, **options))

    def play(self, script: str) -> Peer:
        """Let a new peer play a script."""
        return self.keep(Peer.play(self.address, script))

    def accept(self, upstream: Upstream) -> Peer:
        """Return the next connection of an upstream; it too is closed when the scenario ends."""
        return self.keep(upstream.accept())

    def keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def events(self, peer: Peer | None = None) -> list[Event]:
        """Return what a peer's protocol heard so far."""
        return self.journal.events(self._key(peer))

    def wait_for(self, event: Event | str, peer: Peer | None = None) -> list[Event]:
        """Wait until a peer's protocol heard an event, or any of a callback; return all of it."""

        def heard() -> bool:
            events = self.events(peer)
            return any(e[0] == event for e in events) if isinstance(event, str) else event in events

        self.journal.wait(heard, f"{event} for {peer.name if peer else 'the connection'}")
        return self.events(peer)

    def life(self, peer: Peer | None = None) -> list[Event]:
        """Wait for ``connection_lost``; return all that a peer's protocol heard."""
        return self.wait_for("connection_lost", peer)

    def protocol(self, peer: Peer) -> Any:
        """Return a peer's protocol, once there is one; needs ``shared_state``."""
        self.wait_for("connection_made", peer)
        return self.journal.protocols[self._key(peer) or ""]

    def call(self, call: Callable[..., T], *args: Any) -> T:
        """Call in the engine's thread, and return what it returned; needs ``threadsafe_calls``."""
        done = threading.Event()
        result: list[Any] = []

        def run() -> None:
            try:
                result.append(call(*args))
            except BaseException as exc:
                result.append(exc)
            done.set()

        self.server.call_soon_threadsafe(run)
        assert done.wait(DEADLINE), f"the engine made no call within {DEADLINE:g} s"
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]  # type: ignore[no-any-return]

    def close(self) -> None:
        for peer in self._peers:
            peer.close()

    def _key(self, peer: Peer | None) -> str | None:
        return None if peer is None else key_of(peer.name) or None


class EngineSuite:
    """The base of the suites.

    Attributes:
        engine: the name of the engine under test.
        trigger: "level", or "edge".
        host: "", or the loop that it is a guest in: "asyncio", "uvloop" or "trio".
    """

    engine: str = ""
    trigger: str = "level"
    host: str = ""

    @property
    def capabilities(self) -> frozenset[str]:
        return muxcore.engine(self.engine).capabilities

    def needs(self, *capabilities: str) -> None:
        """Skip the scenario if the engine lacks one of these."""
        for capability in capabilities:
            if capability not in self.capabilities:
                pytest.skip(LACKS.format(engine=self.engine, capability=capability))

    def server(self, service: Any, *where: Any, **options: Any) -> muxcore.Server:
        """Make a server by the engine under test."""
        return _maker(self.host)(
            service,
            *(where or ("127.0.0.1:0",)),
            engine=self.engine,
            trigger=self.trigger,
            **options,
        )

    @contextlib.contextmanager
    def serving(self, service: Any, *where: Any, **options: Any) -> Iterator[Run]:
        """Serve in the background while the block runs, then see that nothing is left behind.

        Args:
            service: a ``Journaled`` class such as a ``Recorder``, or any service.
            where: addresses; none means a free port of loopback.
            options: as of ``Server``.
        """
        _warm_up(self.engine, self.host)
        before = _possessions()
        journal = Journal()
        if isinstance(service, type) and issubclass(service, Journaled):
            service = functools.partial(service, journal)
        try:
            server = self.server(service, *where, **options)
            run = Run(server, journal)
            with server, contextlib.closing(run):
                journal.start()
                yield run
        finally:
            journal.close()
        assert server.stats().open == 0, "connections are counted as open after the end"
        eventually(lambda: not _new(before), lambda: f"left behind: {_new(before)}")


def _maker(host: str) -> Callable[..., muxcore.Server]:
    return functools.partial(HostedServer, host) if host else muxcore.Server


def eventually(holds: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Wait until ``holds()``, for as long as the deadline allows."""
    until = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(0.002)


@contextlib.contextmanager
def meanwhile(*calls: Callable[[], object]) -> Iterator[None]:
    """Make calls that may wait, each in a thread of its own, while the block runs.

    What one of them raises is raised at the block's end.
    """
    raised: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if raised:
        raise raised[0]


def each_engine(suite: type[EngineSuite], model: str = "") -> dict[str, type[EngineSuite]]:
    """Return a test class of a suite for every engine that is available here, and every trigger.

    One that can be a guest has a second class for each trigger, in one of the host loops.

    Args:
        model: of the engines; "" means every model.

    For a test module: ``globals().update(each_engine(ContractSuite))``.
    """
    classes: dict[str, type[EngineSuite]] = {}
    hosts = itertools.cycle(filter(is_here, HOSTS))  # each one with each engine is the same twice
    for info in muxcore.engines():
        triggers = ["level", "edge"] if "edge_trigger" in info.capabilities else ["level"]
        if not info.available or model not in ("", info.model):
            continue
        for trigger in triggers:
            for host in ["", next(hosts)] if "guest" in info.capabilities else [""]:
                words = info.name.split("-") + [trigger] * (len(triggers) > 1)
                words += ["in", host] if host else []
                name = "Test" + "".join(word.capitalize() for word in words)
                about = {"engine": info.name, "trigger": trigger, "host": host}
                classes[name] = type(name, (suite,), about)
    return classes


@functools.cache
def _warm_up(engine: str, host: str) -> None:
    """Let an engine open what it keeps for the whole process (libuv has a pipe for signals)."""
    with _maker(host)(muxcore.Echo, 0, engine=engine, allow_threads=True):
        pass


def _possessions() -> dict[str, str]:
    """What this process has: descriptors, threads and children, by a name for messages."""
    found = {f"thread {t.ident}": t.name for t in threading.enumerate()}
    with contextlib.suppress(FileNotFoundError):  # only Linux has it
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the folder's own
                found[f"descriptor {fd}"] = os.readlink(f"/proc/self/fd/{fd}")
        for task in os.listdir("/proc/self/task"):
            path = f"/proc/self/task/{task}/children"
            with contextlib.suppress(OSError), open(path) as children:
                found.update({f"child {pid}": "" for pid in children.read().split()})
    return found


def _new(before: dict[str, str]) -> list[str]:
    return [f"{name} {what}" for name, what in _possessions().items() if before.get(name) != what]
