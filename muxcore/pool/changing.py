"""A pool that changes while clients use it: who is in it, and what holds for all of them.

What is to be is made as a pool of its own first, so that what cannot be is refused before anything
has changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from muxcore.address import Address
from muxcore.pool.checks import Check
from muxcore.pool.trials import Trials
from muxcore.pool.upstream import Upstream

# What a pool knows, and not what it was told; the first three are told one by one.
_KNOWN = {"check", "trials", "upstreams", "on_added", "is_watched", "apart"}
_KNOWN |= {"_waiting", "_turn", "_is_plain", "_has_one_up", "refusals", "share"}


def change(
    pool: Any, upstreams: tuple[str | int | Address | Upstream, ...], settings: Mapping[str, Any]
) -> None:
    """Do what ``Pool.change`` does."""
    wanted = [each if isinstance(each, Upstream) else Upstream(each) for each in upstreams]
    wanted = wanted or list(pool.upstreams)
    model = type(pool)(*map(copy.copy, wanted), **{**pool._made_with, **settings})
    ours = {each.address: each for each in pool.upstreams}
    news = []
    stay = [ours.get(each.address) for each in wanted]
    vars(pool).update({name: v for name, v in vars(model).items() if name not in _KNOWN})
    pool.upstreams = tuple(mine or new for mine, new in zip(stay, model.upstreams, strict=True))
    for given, mine, new in zip(wanted, stay, model.upstreams, strict=True):
        if mine is None:
            new.freed, new.came_up = pool._freed, pool.clock()
            news.append(new)
        elif given is not mine:  # one of the pool's own stays as it is
            mine._become(new)
    _try(pool, model.trials)
    _check(pool, model.check, news)
    pool.changed()
    pool.look_again()


def _try(pool: Any, trials: Trials | None) -> None:
    """Have other trials; those that are under way go on."""
    before = pool.trials
    if before is not None and trials is not None:
        before.become(trials)
    elif trials is not None:
        pool.trials, trials._pool = trials, pool
    elif before is not None:
        pool.trials = None
        before.end()
        for each in pool.upstreams:
            each.ejected = False  # it rests, and the next client that is connected ends that


def _check(pool: Any, check: Check | None, news: list[Upstream]) -> None:
    """Have other checks: those that went on end by themselves, since they see that."""
    before = pool.check
    if before != check:
        pool.check, news = check, list(pool.upstreams)
        for each in pool.upstreams:
            if check is None:  # nobody would find out that it serves again
                each.failing = ""
            if check is None or check.agent is None:
                each.percent, each.said, each.withdrawn = 100.0, "", ""
    if pool.on_added is not None:
        for each in news:
            pool.on_added(each)
