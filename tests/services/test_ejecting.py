"""Upstreams that take clients and do not answer, behind the relay service.

On one engine of each kind: the contract has the rules, on all of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

import muxcore
from muxcore.pool import FIRST_PAUSE
from muxcore.services.relay import Record
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream

_ENGINES = [
    info.name
    for info in muxcore.engines()
    if info.available and info.name in ("native-epoll", "pure-epoll", "asyncio")
]
pytestmark = pytest.mark.parametrize("engine", _ENGINES)


class Clock:
    """Who rests does so until it is told to go on."""

    now = 1.0

    def __call__(self) -> float:
        return self.now


class Relayed:
    """A relay between a mute upstream and one that answers."""

    def __init__(
        self, engine: str, *, check: muxcore.Check | None = None, log: bool = True
    ) -> None:
        self.records: list[Record] = []
        self.clock = Clock()
        self.stack = contextlib.ExitStack()
        self.mute = self.stack.enter_context(Upstream())
        self.other = self.stack.enter_context(Upstream())
        self.pool = muxcore.Pool(
            *(self.mute.address, self.other.address),
            eject_after=2,
            first_byte_timeout=0.05,
            clock=self.clock,
            spread=lambda: 0.5,
            check=check,
        )
        relay = muxcore.Relay(self.pool, access_log=self.records.append if log else None)
        self.server = muxcore.Server(relay, "127.0.0.1:0", engine=engine, allow_threads=True)
        self.stack.enter_context(self.server)

    def hangs(self) -> None:
        """One client that the mute one has, until it is cut."""
        with Peer(self.server.addresses[0]) as client:
            client.send(b"?")
            with self.mute.accept() as there:
                assert there.read(1) == b"?"
                client.read_end()
                there.read_end()

    def answers(self, upstream: Upstream) -> None:
        """One client that has an answer."""
        with Peer(self.server.addresses[0]) as client:
            client.send(b"?")
            with upstream.accept() as there:
                there.send(b"!")
                assert client.read(1) == b"!"

    def state(self) -> str:
        return self.pool.stats()[self.mute.address].state


@pytest.fixture(params=[True, False], ids=["log", "no log"])
def relayed(engine: str, request: pytest.FixtureRequest) -> Iterator[Relayed]:
    made = Relayed(engine, log=request.param)
    with made.stack:
        yield made
    assert [each.active for each in made.pool.upstreams] == [0, 0]


def test_an_upstream_that_hangs_gets_those_clients_alone_that_come_until_it_is_found(
    relayed: Relayed, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as stack:  # under load: so many come before the limit has passed
        given = []
        for number in range(20):
            client = stack.enter_context(Peer(relayed.server.addresses[0]))
            client.send(b"%02d" % number)
            given.append(client)
        answered: list[bytes] = []

        def serve() -> None:
            while len(answered) < 60:
                with relayed.other.accept() as there:
                    asked = there.read(2)
                    answered.append(asked)
                    there.send(asked)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        cut = 0
        for number, client in enumerate(given):
            try:
                assert client.read(2) == b"%02d" % number
            except (AssertionError, OSError):
                cut += 1
        eventually(lambda: relayed.state() == "ejected", "it is not found")
        lost = relayed.pool.stats()[relayed.mute.address].total
        assert cut == lost
        for _ in range(60 - len(answered)):
            with Peer(relayed.server.addresses[0]) as client:
                client.send(b"..")
                assert client.read(2) == b".."
        serving.join()
        assert relayed.pool.stats()[relayed.mute.address].total == lost
    told = [record.getMessage() for record in caplog.records]
    assert sum("is ejected for 0.5 s: 2 in a row without an answer" in text for text in told) == 1


def test_it_is_back_once_a_client_was_answered(relayed: Relayed) -> None:
    for _ in range(2):
        relayed.hangs()
        relayed.answers(relayed.other)
    assert relayed.state() == "ejected"
    relayed.clock.now += FIRST_PAUSE
    relayed.hangs()  # it takes a connection, which shows nothing
    assert relayed.state() == "ejected"
    for _ in range(2):
        relayed.answers(relayed.other)
    relayed.clock.now += 2 * FIRST_PAUSE
    relayed.answers(relayed.mute)
    eventually(lambda: relayed.state() == "up", "it is not back")


def test_the_access_log_says_whose_first_byte_was_late(engine: str) -> None:
    made = Relayed(engine)
    with made.stack:
        made.hangs()
        eventually(lambda: len(made.records) == 1, "it is not logged")
        (record,) = made.records
        assert (record.ended, record.bytes_up, record.bytes_down) == ("first byte", 1, 0)
        assert record.upstream == made.mute.address


def test_a_check_that_only_connects_brings_nobody_back(engine: str) -> None:
    made = Relayed(engine, check=muxcore.Check(every=0.01, timeout=60, rise=1))
    with made.stack:
        upstream = made.pool.upstreams[0]
        for trial in range(2):
            assert made.pool.trials is not None
            made.pool.trials.unanswered(upstream, 1.0 + trial, "in vain")
        assert made.state() == "ejected"
        for _ in range(5):  # checks
            made.mute.accept().close()
        assert made.state() == "ejected"
