"""The steps of a drain, on a clock that the tests move."""

from __future__ import annotations

import math
import socket
import threading
from typing import Any

import pytest

import muxcore
from muxcore import registry
from muxcore.limits import Limits
from muxcore.parts import draining


class Clock:
    """A clock and an engine beside it.

    Attributes:
        now: what the clock says.
        did: what was asked of the engine, and when.
        here: its clients.
    """

    def __init__(self, here: int, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.now = 1000.0
        self.here = here
        self.stopped = 0
        self.did: list[tuple[float, str]] = []

    def monotonic(self) -> float:
        return self.now

    def _note(self, what: str) -> None:
        self.did.append((round(self.now - 1000, 3), what))

    def on_phase(self, phase: str) -> None:
        self._note(phase)

    def tell_draining(self) -> None:
        self._note("told")

    def take_nobody(self) -> None:
        self._note("nobody")

    def stop_idle(self) -> None:
        self._note("look")

    def clients(self) -> int:
        return self.here

    def stop_clients(self, most: int) -> int:
        ended = min(most, self.here)
        self.here -= ended
        self._note(f"ended {ended}")
        return ended

    def stop(self) -> None:
        self._note("stop")

    def run(self, timeout: float | None = None, late: float = 0.0) -> None:
        """Take all steps, each as late as that."""
        for wait in draining.steps(self, timeout):
            self.now += wait + late

    def ends(self) -> list[tuple[float, str]]:
        return [(at, what) for at, what in self.did if what.startswith("ended ")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Clock:
    made = Clock(**request.param)
    monkeypatch.setattr(draining, "monotonic", made.monotonic)
    return made


@pytest.mark.parametrize(
    "clock", [{"here": 3, "drain_delay": 5, "drain_timeout": 30}], indirect=True
)
def test_the_time_of_clients_begins_when_the_listeners_are_closed(clock: Clock) -> None:
    clock.run()
    assert clock.did == [
        (0, "draining"),
        (0, "told"),
        (5, "nobody"),
        (5, "closed"),
        (35, "ended 3"),
        (35, "over"),
        (35, "stop"),
    ]
    assert clock.stopped == 3


@pytest.mark.parametrize("clock", [{"here": 2, "drain_timeout": 30}], indirect=True)
def test_a_time_that_is_given_overrules_the_limit(clock: Clock) -> None:
    clock.run(timeout=0)
    assert clock.ends() == [(0, "ended 2")]


@pytest.mark.parametrize("clock", [{"here": 2, "drain_timeout": None}], indirect=True)
def test_without_a_limit_nobody_is_ended(clock: Clock) -> None:
    steps = draining.steps(clock, None)
    for _ in range(1000):
        clock.now += next(steps)
    assert clock.now > 1000 + 900 * 86_400
    assert clock.ends() == []


@pytest.mark.parametrize(
    "clock", [{"here": 2, "drain_timeout": 10, "drain_idle": 4}], indirect=True
)
def test_who_is_idle_is_looked_for_until_the_time_is_over(clock: Clock) -> None:
    clock.run()
    assert [at for at, what in clock.did if what == "look"] == [0, 4, 8]
    assert clock.ends() == [(10, "ended 2")]


@pytest.mark.parametrize(
    "clock", [{"here": 4, "drain_timeout": 0, "drain_spread": 20}], indirect=True
)
def test_a_spread_is_even(clock: Clock) -> None:
    clock.run()
    assert clock.ends() == [(at, "ended 1") for at in (0, 5, 10, 15)] + [(20, "ended 0")]
    assert clock.stopped == 4


@pytest.mark.parametrize(
    "clock", [{"here": 1000, "drain_timeout": 0, "drain_spread": 1}], indirect=True
)
def test_a_spread_of_many_takes_them_in_groups(clock: Clock) -> None:
    clock.run()
    sizes = [int(what.split()[1]) for _, what in clock.ends()]
    assert sum(sizes) == 1000
    assert len(sizes) <= 22
    assert max(sizes) <= 51


@pytest.mark.parametrize(
    "clock", [{"here": 10, "drain_timeout": 0, "drain_spread": 10}], indirect=True
)
@pytest.mark.parametrize("late", [0.5, 3.0, math.pi, 100.0])
def test_a_spread_that_is_held_up_catches_up_and_is_bounded(clock: Clock, late: float) -> None:
    clock.run(late=late)
    assert clock.here == 0
    assert clock.stopped == 10
    assert clock.ends()[-1][0] <= 10 + 2 + late


_LOOPS = [
    each.name
    for each in registry.engines()
    if each.available and {"drain", "shared_state"} <= each.capabilities
]


@pytest.mark.parametrize("name", _LOOPS)
def test_who_is_closing_in_order_is_not_ended_as_idle(name: str) -> None:
    ends: list[BaseException | None] = []
    over = threading.Event()

    class Leaves:
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def eof_received(self) -> None:
            engine = self.transport._engine
            self.transport.close()
            engine.stop_idle()
            engine.stop_idle()  # no byte has moved since the first look

        def connection_lost(self, exc: BaseException | None) -> None:
            ends.append(exc)
            over.set()

    with muxcore.Server(Leaves, "127.0.0.1:0", engine=name) as server:
        where = muxcore.address.parse(server.addresses[0])
        socket.create_connection((where.host, where.port)).close()
        assert over.wait(10)
    assert ends == [None]
