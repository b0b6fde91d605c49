"""Connections that a pool cuts: whose, when, and how many in a turn of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.pool import Check, Pool, Trial, Upstream
from muxcore.pool.trials import AT_ONCE


class Transport:
    """The upstream's connection; and its server, whose later turns it keeps."""

    def __init__(self, later: list[Callable[[], object]]) -> None:
        self.later = later
        self.ended: BaseException | None = None
        self.server = self

    def get_extra_info(self, name: str) -> tuple[int, int]:
        return (1, 1)

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        assert delay == 0
        self.later.append(lambda: call(*args))

    def _fail(self, exc: BaseException) -> None:
        self.ended = exc


class Cutting:
    def __init__(self, *upstreams: Any, **options: Any) -> None:
        self.pool = Pool(*upstreams, clock=lambda: 1000.0, spread=lambda: 0.5, **options)
        self.later: list[Callable[[], object]] = []

    def joined(self, number: int) -> tuple[Trial, Transport]:
        upstream, transport = self.pool.upstreams[number], Transport(self.later)
        upstream.active += 1
        self.pool.connected(upstream)
        assert self.pool.trials is not None
        return self.pool.trials.begin(upstream, transport, 1000.0), transport

    def says(self, line: str) -> None:
        self.pool.heard(self.pool.upstreams[0], line)
        self.turn()

    def fails(self, upstream: Upstream | None = None) -> None:
        self.pool.fails(upstream or self.pool.upstreams[0], "late")
        self.turn()

    def turn(self) -> None:
        later, self.later[:] = self.later[:], []
        for call in later:
            call()


@pytest.mark.parametrize("line", ["down", "maint", "fail # a disk"])
def test_an_agent_that_says_so_cuts_and_one_that_drains_does_not(line: str) -> None:
    cutting = Cutting("a:1", "b:1", cut_failing=True, check=Check(agent=9))
    (_, here), (_, there) = cutting.joined(0), cutting.joined(1)
    for harmless in ("drain", "0%", "ready 100% up"):
        cutting.says(harmless)
    assert here.ended is None
    cutting.says(line)
    assert isinstance(here.ended, muxcore.PairCut)
    assert str(here.ended).endswith("cut: its upstream is failing")
    assert there.ended is None


def test_who_comes_to_one_that_is_failing_is_cut_with_the_next_failure() -> None:
    cutting = Cutting("a:1", cut_failing=True, check=Check())
    cutting.fails()
    _, here = cutting.joined(0)  # it was on its way
    cutting.fails()
    assert here.ended is not None


def test_backups_are_cut_once_another_is_up_and_not_before() -> None:
    spare = Upstream("b:1", backup=True)
    cutting = Cutting("a:1", spare, "c:1", cut_backups=True, check=Check(agent=9))
    a, _, c = cutting.pool.upstreams
    cutting.says("down")
    cutting.fails(c)
    _, here = cutting.joined(1)
    cutting.pool.recovered(spare)
    cutting.turn()
    cutting.says("drain up")
    assert here.ended is None
    cutting.says("ready")
    assert str(here.ended).endswith("cut: its upstream is a backup")
    assert a.is_up


def test_nobody_is_kept_who_has_ended_and_nobody_cut_where_it_is_not_wanted() -> None:
    cutting = Cutting("a:1", cut_failing=True, check=Check())
    (gone, ended), (_, here) = cutting.joined(0), cutting.joined(0)
    gone.connection_lost(None)
    cutting.pool.change(cut_failing=False)
    cutting.fails()
    assert here.ended is None
    cutting.pool.change(cut_failing=True)
    cutting.fails()
    assert (ended.ended, cutting.pool.upstreams[0].active) == (None, 1)


def test_many_are_cut_in_several_turns_and_who_has_gone_meanwhile_is_passed_over() -> None:
    cutting = Cutting("a:1", cut_failing=True, check=Check())
    joined = [cutting.joined(0) for _ in range(2 * AT_ONCE + 1)]
    cutting.fails()
    left = [(trial, its) for trial, its in joined if its.ended is None]
    assert len(left) == AT_ONCE + 1
    goes, stays = left[:AT_ONCE:2], left[1::2]
    for trial, _ in goes:
        trial.connection_lost(None)
    while cutting.later:
        cutting.turn()
    assert not any(its.ended for _, its in goes)
    assert all(its.ended for _, its in stays)


def test_a_pool_that_cuts_who_is_failing_has_a_check() -> None:
    with pytest.raises(ValueError, match="cut_failing needs a check"):
        Pool("a:1", cut_failing=True)
    with pytest.raises(ValueError, match="cut_failing needs a check"):
        Pool("a:1", cut_failing=True, check=Check()).change(check=None)
