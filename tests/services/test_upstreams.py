"""Which upstream a client gets; the clock and the jitter are the test's."""

from __future__ import annotations

from muxcore.address import parse
from muxcore.services.relay.upstreams import FIRST_PAUSE, LONGEST_PAUSE, Upstreams


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _upstreams(*names: str, policy: str = "round-robin") -> tuple[Upstreams, _Clock]:
    clock = _Clock()
    upstreams = Upstreams([parse(name) for name in names], policy, clock, lambda: 0.5)
    return upstreams, clock


def _take(upstreams: Upstreams) -> str:
    taken = upstreams.take()
    assert taken is not None
    return taken.name


def test_round_robin_gives_each_its_turn() -> None:
    upstreams, _ = _upstreams("a:1", "b:1", "c:1")
    assert [_take(upstreams) for _ in range(6)] == ["a:1", "b:1", "c:1"] * 2


def test_least_connections_gives_the_one_with_the_fewest() -> None:
    upstreams, _ = _upstreams("a:1", "b:1", policy="least-connections")
    first, second = upstreams.take(), upstreams.take()
    assert first is not None
    assert second is not None
    assert first is not second
    upstreams.left(second)
    assert upstreams.take() is second


def test_one_that_fails_is_left_alone_and_its_pause_doubles_up_to_the_longest() -> None:
    upstreams, clock = _upstreams("a:1", "b:1")
    bad = upstreams.all[0]
    pause = FIRST_PAUSE
    for _ in range(10):
        taken = upstreams.take()
        while taken is not bad:
            assert taken is not None
            upstreams.left(taken)
            taken = upstreams.take()
        upstreams.failed(bad, clock.now, "refused")
        assert upstreams.stats()["a:1"].state == "resting"
        assert abs(upstreams.stats()["a:1"].rests_for - pause) < 1e-6
        assert [_take(upstreams) for _ in range(4)] == ["b:1"] * 4
        clock.now += pause
        pause = min(2 * pause, LONGEST_PAUSE)


def test_after_the_pause_one_client_probes_and_success_ends_it() -> None:
    upstreams, clock = _upstreams("a:1", "b:1")
    bad = upstreams.take()
    assert bad is not None
    upstreams.failed(bad, clock.now, "refused")
    clock.now += FIRST_PAUSE
    assert upstreams.take() is bad
    assert upstreams.stats()["a:1"].state == "probing"
    assert [_take(upstreams) for _ in range(3)] == ["b:1"] * 3  # one probe at a time
    upstreams.connected(bad)
    assert upstreams.stats()["a:1"].state == "up"
    assert "a:1" in [_take(upstreams) for _ in range(2)]


def test_where_all_rest_the_one_that_is_due_first_is_tried_all_the_same() -> None:
    upstreams, clock = _upstreams("a:1", "b:1")
    for _ in range(2):
        taken = upstreams.take()
        assert taken is not None
        upstreams.failed(taken, clock.now, "refused")
        clock.now += 0.1
    assert _take(upstreams) == "a:1"


def test_clients_that_waited_for_a_dying_upstream_do_not_lengthen_its_pause() -> None:
    upstreams, clock = _upstreams("a:1")
    began = clock.now
    taken = [upstreams.take() for _ in range(5)]
    for each in taken:
        assert each is not None
        clock.now += 0.01
        upstreams.failed(each, began, "timed out")
    assert upstreams.stats()["a:1"].rests_for <= FIRST_PAUSE
    assert upstreams.stats()["a:1"].failed == 5


def test_none_is_left_when_all_were_tried() -> None:
    upstreams, _ = _upstreams("a:1", "b:1")
    assert upstreams.take(upstreams.all) is None
