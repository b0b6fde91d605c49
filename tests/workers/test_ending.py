"""When the end of a parent goes on: what is asked for begins at once, and what is late is ended."""

from __future__ import annotations

import math

from muxcore import Limits
from muxcore.workers.ending import Ending, Phase

_LIMITS = Limits(drain_delay=2.0, drain_spread=0.0, stop_timeout=3.0)
_NOW = 1000.0


def _begun(ending: Ending, now: float) -> Phase | None:
    return ending.phase if ending.goes_on(now, _LIMITS) else None


def test_who_serves_and_is_asked_for_nothing_has_no_end() -> None:
    ending = Ending(30.0)
    assert _begun(ending, _NOW) is None
    assert ending.due() == math.inf


def test_a_drain_closes_the_sockets_after_its_delay_and_then_clients_have_their_time() -> None:
    ending = Ending(30.0)
    ending.drain_asked = True
    assert _begun(ending, _NOW) == Phase.DRAINING
    assert [ending.closes(_NOW + at) for at in (1.9, 2.0, 2.1)] == [False, True, False]
    assert [ending.is_over(_NOW + at) for at in (31.9, 32.0, 32.1)] == [False, True, False]


def test_a_drain_without_a_limit_waits_for_nothing_but_its_delay() -> None:
    ending = Ending(None)
    ending.drain_asked = True
    assert _begun(ending, _NOW) == Phase.DRAINING
    assert ending.due() == _NOW + 2.0
    assert ending.closes(_NOW + 2.0)
    assert ending.due() == math.inf


def test_a_stop_cuts_a_drain_short_and_leaves_no_socket_to_be_closed_later() -> None:
    ending = Ending(None)
    ending.drain_asked = True
    ending.goes_on(_NOW, _LIMITS)
    ending.stop_asked = True
    assert _begun(ending, _NOW) == Phase.STOPPING
    assert not ending.closes(_NOW + 2.0)


def test_workers_that_do_not_stop_in_time_are_aborted_and_then_killed() -> None:
    ending = Ending(30.0)
    ending.stop_asked = True
    assert _begun(ending, _NOW) == Phase.STOPPING
    assert ending.due() > _NOW + _LIMITS.stop_timeout
    assert _begun(ending, ending.due()) == Phase.ABORTING
    assert _begun(ending, ending.due()) == Phase.KILLING
    assert _begun(ending, math.inf) is None


def test_a_drain_that_hangs_is_aborted_as_well() -> None:
    ending = Ending(30.0)
    ending.drain_asked = True
    assert _begun(ending, _NOW) == Phase.DRAINING
    late = _NOW + 2.0 + 30.0 + 3.0
    ending.closes(late)
    ending.is_over(late)
    assert ending.due() > late
    assert _begun(ending, ending.due()) == Phase.ABORTING
