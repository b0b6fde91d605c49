"""A rate as an object: what it takes, whose it is, and what is left of it."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

import muxcore
from muxcore import Rate
from muxcore.native import core
from muxcore.native.native_engine import NativeEpollEngine
from muxcore.testing.contract.limiting import limited_pair
from muxcore.testing.contract.relaying import pairs
from muxcore.testing.recorder import Recorder
from muxcore.testing.suite import EngineSuite, eventually

from .usual import usual

_WITH_RATES = [
    each.name for each in muxcore.engines() if each.available and "rates" in each.capabilities
]


@pytest.mark.parametrize(
    ("bytes_per_second", "burst"),
    [(1, 4096), (40_960, 4096), (40_961, 4097), (10_000_000, 1_000_000), (0.5e9, 50_000_000)],
)
def test_a_burst_is_a_tenth_of_a_second_and_a_short_message_at_least(
    bytes_per_second: float, burst: int
) -> None:
    assert Rate(bytes_per_second).burst == burst


@pytest.mark.parametrize(
    ("args", "kind", "says"),
    [
        ((0,), ValueError, r"from 1 to 2\*\*50, not 0; pause_reading"),
        ((-5,), ValueError, "from 1"),
        ((0.5,), ValueError, "from 1"),
        ((2**51,), ValueError, "from 1"),
        ((float("nan"),), ValueError, "from 1"),
        ((float("inf"),), ValueError, "from 1"),
        (("1000",), TypeError, "must be a number, not '1000'"),
        ((True,), TypeError, "must be a number"),
        ((1000, 0), ValueError, r"burst must be from 10 .*not 0"),
        ((1000, 9), ValueError, "whole milliseconds"),
        ((1000, 2**51), ValueError, "burst must be"),
        ((1000, 10.5), TypeError, "whole number of bytes, not 10.5"),
        ((1000, True), TypeError, "whole number"),
    ],
)
def test_what_cannot_be_a_rate_is_refused_and_no_change_to_one(
    args: tuple[Any, ...], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        Rate(*args)
    rate = Rate(7000, 700)
    with pytest.raises(kind, match=says):
        rate.change(*args)
    assert (rate.bytes_per_second, rate.burst) == (7000, 700)


def test_a_copy_is_a_rate_of_its_own() -> None:
    rate = Rate(7000, 700)
    for made in (copy.copy(rate), pickle.loads(pickle.dumps(rate))):
        assert made is not rate
        assert repr(made) == repr(rate) == "Rate(7000, burst=700)"
    rate.change(20_000)
    assert (rate.bytes_per_second, rate.burst) == (20_000, 4096)


class TestOfAnEngine(EngineSuite):
    @pytest.fixture(autouse=True, params=usual(_WITH_RATES, ("native-epoll", "pure-epoll")))
    def _engine(self, request: pytest.FixtureRequest) -> None:
        self.engine = request.param

    def test_no_other_thread_may_change_one_that_is_in_use(self) -> None:
        rate = Rate(1000)
        with self.serving(limits(rate)) as run:
            run.protocol(run.connect())
            run.call(int)  # connection_made has returned
            with pytest.raises(RuntimeError, match=r"Rate\.change\(\).*call_soon_threadsafe"):
                rate.change(2000)
            assert rate.bytes_per_second == 1000
            run.call(rate.change, 2000)
            assert rate.bytes_per_second == 2000
        rate.change(3000)

    def test_another_server_may_have_it_once_the_first_has_ended(self) -> None:
        rate = Rate(10_000_000)
        for _ in range(2):
            with self.serving(limits(rate)) as run:
                peer = run.connect()
                peer.send(100)
                peer.shutdown_write()
                run.life(peer)
                assert run.server.stats().bytes_in == 100


class TestInPython(EngineSuite):
    engine = "pure-select"

    def test_who_has_ended_is_in_no_queue(self) -> None:
        rate = Rate(1, 100)
        with self.serving(limits(rate)) as run:
            for end in ("close", "abort"):
                peer = run.connect()
                peer.send(1000)
                eventually(lambda: rate._bucket and rate._bucket.waiting, "nobody waits")
                run.call(getattr(run.protocol(peer).transport, end))
                run.life(peer)
                assert not rate._bucket.waiting

    def test_who_is_closing_counts_against_nothing(self) -> None:
        rate = Rate(1, 100)

        class Late(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.close()
                transport.limit(rate)

        with self.serving(Late) as run:
            run.life(run.connect())
        assert rate._bucket is None


class TestInC(EngineSuite):
    engine = "native-epoll"

    @pytest.fixture(autouse=True)
    def _native(self) -> None:
        if core.missing is not None:
            pytest.skip(f"no C core: {core.missing}")

    def test_what_python_has_forgotten_is_used_again(self) -> None:
        def made(transport: Any) -> int:
            rate = Rate(1)
            transport.limit(rate)
            transport.limit()
            return int(rate._bucket.number)

        with self.serving(Recorder) as run:
            transport = run.protocol(run.connect()).transport
            assert len({run.call(made, transport) for _ in range(100)}) <= 2
            kept = [Rate(1)]
            run.call(transport.limit, *kept)
            number = kept[0]._bucket.number
            run.call(transport.limit)
            thread = threading.Thread(target=kept.clear)  # the last reference goes elsewhere
            thread.start()
            thread.join()
            eventually(
                lambda: run.call(made, transport) == number, "its number is never used again"
            )

    def test_a_limited_pair_stays_in_its_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NativeEpollEngine, "movers", 1)
        monkeypatch.setattr(core, "STAY", 0)
        with self.serving(limited_pair(Rate(1_000_000))) as run:
            peers = run.connect(), run.connect()
            for _ in range(3):
                peers[0].send(b"there")
                assert peers[1].read(5) == b"there"
                peers[1].send(b"back")
                assert peers[0].read(4) == b"back"
            assert run.protocol(peers[0]).transport.server._engine._movers[0].counted.open == 0

    def test_a_pair_that_a_mover_has_takes_no_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NativeEpollEngine, "movers", 1)
        monkeypatch.setattr(core, "STAY", 0)
        with self.serving(pairs()) as run:
            peers = run.connect(), run.connect()
            transport = run.protocol(peers[1]).transport
            movers = transport.server._engine._movers
            eventually(lambda: movers and movers[0].counted.open == 2, "the pair never leaves")
            with pytest.raises(RuntimeError, match="a mover has the pair"):
                run.call(transport.limit, Rate(1_000_000))
            peers[0].send(b"there")
            assert peers[1].read(5) == b"there"


def limits(rate: Rate) -> type[Recorder]:
    """Return a protocol whose connections count against a rate."""

    class Limits(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.limit(rate)

    return Limits
