"""Connections of one service may be idle for so long, those of another as the server has it."""

from __future__ import annotations

from typing import Any

import pytest

import muxcore
from muxcore.config import Served, read
from muxcore.pool.trials import LOOKS
from muxcore.services.idle import Idle, Watch
from muxcore.testing import Peer, eventually
from muxcore.testing.upstream import Upstream
from tests.usual import usual

_ENGINES = usual(
    [i.name for i in muxcore.engines() if i.available and {"relay", "timers"} <= i.capabilities]
)
_SOON = 0.2  # s
_FILE = """\
[listeners.impatient]
address = "127.0.0.1:0"
pool = "web"
idle_timeout = {soon}
[listeners.patient]
address = "[::1]:0"
pool = "web"
[pools.web]
upstreams = "{upstream}"
"""


class _Connection:
    """A connection, as far as a watch is concerned."""

    def __init__(self) -> None:
        self.moved = (0, 0)
        self.waits = False
        self.ended: list[BaseException | None] = []

    def get_extra_info(self, name: str) -> Any:
        assert name == "bytes"
        return self.moved

    def _waits_for_rate(self) -> bool:
        return self.waits

    def _fail(self, exc: BaseException | None) -> None:
        self.ended.append(exc)


@pytest.mark.parametrize("engine", _ENGINES)
def test_an_idle_pair_of_one_listener_ends_and_that_of_another_stays(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "muxcore.access")
    with Upstream() as upstream:
        text = _FILE.format(soon=_SOON, upstream=upstream.address) + '[log]\naccess = "json"\n'
        served = Served(read("relay.toml", text.encode()))
        with muxcore.Server(served.where(), engine=engine) as server:
            impatient, patient = server.addresses
            with Peer(patient) as stays:
                stays.send(b"x")
                there = upstream.accept()
                assert there.read(1) == b"x"
                with Peer(impatient) as ends:
                    ends.read_end()
                there.send(b"still here")
                assert stays.read(10) == b"still here"
                there.close()
                stays.read_end()
            eventually(lambda: len(caplog.messages) == 2, "a line is missing")
    assert '"ended": "idle"' in caplog.messages[0]
    assert '"ended": "closed"' in caplog.messages[1]


def test_who_moves_a_byte_either_way_is_not_idle() -> None:
    connection = _Connection()
    watch = Watch(connection, 1.0)
    for number in range(3 * LOOKS):
        assert watch.look()
        if number % LOOKS == LOOKS - 1:
            received, sent = connection.moved
            connection.moved = (received + 1, sent) if number % 2 else (received, sent + 1)
    assert connection.ended == []


def test_who_moves_none_is_cut_a_look_late_at_most() -> None:
    connection = _Connection()
    watch = Watch(connection, 1.0)
    assert [watch.look() for _ in range(LOOKS + 1)] == [True] * LOOKS + [False]
    (exc,) = connection.ended
    assert isinstance(exc, muxcore.IdleTimeout)


def test_whom_only_a_rate_keeps_back_is_not_idle() -> None:
    connection = _Connection()
    connection.waits = True
    watch = Watch(connection, 1.0)
    assert all(watch.look() for _ in range(2 * LOOKS))
    connection.waits = False
    assert [watch.look() for _ in range(LOOKS)] == [True] * (LOOKS - 1) + [False]


def test_who_has_ended_is_looked_at_no_more() -> None:
    connection = _Connection()
    watch = Watch(connection, 1.0)
    watch.connection_lost(None)
    assert not watch.look()
    assert connection.ended == []


def test_it_needs_timers() -> None:
    service = Idle(muxcore.Echo, timeout=1.0)
    assert service.requires == {"timers"}


@pytest.mark.parametrize("timeout", [0, -1, "1"])
def test_a_time_that_cannot_be_is_refused(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout"):
        Idle(muxcore.Echo, timeout=timeout)
