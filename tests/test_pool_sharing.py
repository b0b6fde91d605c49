"""What one of several workers has of a pool: shares of what is for all, and the rest whole."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import pytest

import muxcore
from muxcore.config import Served
from muxcore.config.document import read
from muxcore.parts import checking, dispatch
from muxcore.pool import Check, Pool, Upstream
from muxcore.services.router.first import First


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _shares(of: Any, count: int = 4) -> list[Any]:
    return [dispatch.share_of(of, number, count) for number in range(1, count + 1)]


def _taken(pool: Pool) -> int:
    """Return how many clients a pool takes at once."""
    return sum(pool.take() is not None for _ in range(100))


def test_caps_of_a_pool_and_of_an_upstream_hold_in_sum() -> None:
    pool = Pool("a:1", Upstream("b:1", max_active=6), max_active=9)
    assert [_taken(each) for each in _shares(pool)] == [5, 4, 3, 3]
    assert _taken(pool) == 15  # the whole knows of none of these


def test_a_cap_below_the_number_of_workers_is_one_client_each() -> None:
    shares = _shares(Pool(Upstream("a:1", max_active=2), queue=3))
    assert [_taken(each) for each in shares] == [1, 1, 1, 1]
    assert [each.queue for each in shares] == [1, 1, 1, 1]


def test_a_queue_is_shared_out_and_no_queue_stays_none() -> None:
    assert [each.queue for each in _shares(Pool("a:1", queue=6))] == [2, 2, 1, 1]
    assert [each.queue for each in _shares(Pool("a:1"))] == [0, 0, 0, 0]
    assert [each.max_active for each in _shares(Pool("a:1"))] == [None] * 4


def test_rates_of_a_pool_and_of_an_upstream_hold_in_sum() -> None:
    clock = _Clock()
    pool = Pool(Upstream("a:1", rate=16), "b:1", rate=8, clock=clock)
    shares = _shares(pool)
    assert [_taken(each) for each in shares] == [4 + 2] * 4
    clock.now += 1
    assert [_taken(each) for each in shares] == [4 + 2] * 4


def test_all_else_is_as_it_is_for_all_and_nothing_is_known_yet() -> None:
    check = Check(every=7)
    upstream = Upstream("a:1", weight=3, backup=True, out=True, send_proxy="v1")
    pool = Pool(upstream, "b:1", policy="source", check=check, eject_after=3, name="db")
    pool.fails(pool.upstreams[1], "asked in vain")
    share = pool.share_of(2, 4)
    assert (share.policy, share.check, share.name, share.share) == ("source", check, "db", (2, 4))
    theirs = share.upstreams[0]
    assert (theirs.weight, theirs.backup, theirs.out, theirs.send_proxy) == (3, True, True, "v1")
    assert share.trials is not None
    assert [each.state for each in share.stats().values()] == ["out", "up"]


def test_what_counts_in_one_place_does_so_in_each_worker() -> None:
    for pool in (
        Pool("a:1", max_active=1),
        Pool("a:1", rate=1),
        Pool("a:1", queue=1),
        Pool("a:1", slow_start=1),
        Pool("a:1", check=Check()),
        Pool("a:1", policy="two-random"),
        Pool(Upstream("a:1", rate=1)),
    ):
        assert "shared_state" in pool.requires
        assert pool.share_of(1, 2).requires == pool.requires - {"shared_state"}
    share = Pool("a:1").share_of(1, 2)
    share.change(queue=3)
    assert share.requires == {"timers"}


def test_workers_do_not_all_begin_with_the_same_upstream() -> None:
    first = [each.take() for each in _shares(Pool("a:1", "b:1", "c:1", "d:1"))]
    assert [each.name for each in first] == ["a:1", "b:1", "c:1", "d:1"]


def test_workers_do_not_draw_the_same_pauses() -> None:
    crosses = pickle.dumps(Pool("a:1"))
    first, second = pickle.loads(crosses), pickle.loads(crosses)
    assert first.spread() != second.spread()


def test_an_upstream_added_in_a_worker_or_told_by_its_agent_has_that_workers_share() -> None:
    pool = Pool("a:1", max_active=8, check=Check(agent=9))
    share = pool.share_of(1, 4)
    share.add("b:1")
    assert _taken(share) == 4
    for told in (pool, share):
        checking._Agent(told, told.upstreams[0]).succeeded(b"maxconn:30\n")
    assert (pool.upstreams[0].max_active, share.upstreams[0].max_active) == (30, 8)


def test_all_services_of_a_worker_have_the_same_share_of_a_pool() -> None:
    pool = Pool("a:1", max_active=4)
    relay = muxcore.Relay(pool)
    router = muxcore.Router(muxcore.Route(pool, protocol="ssh"), default=pool)
    services = (relay, muxcore.BehindProxy(muxcore.Guard(relay), trusted=["unix"]), router)
    ours, wrapped, routed = (dispatch.share_of(each, 1, 2) for each in services)
    assert ours.pool is wrapped.service.service.pool is routed.plan.default
    assert routed.plan.routes[0].pool is ours.pool
    assert list(routed.plan.relays) == [ours.pool]
    assert _taken(ours.pool) == 2
    assert relay.pool is pool
    pool.change(max_active=8)
    assert _taken(relay.share_of(1, 2).pool) == 4  # what it was given before is no more
    pool.add("b:1")
    assert _taken(relay.share_of(1, 2).pool) == 8


def test_a_relay_that_is_shared_out_is_served_by_each_worker() -> None:
    relay = muxcore.Relay(Pool("a:1", max_active=4), idle_timeout=5)
    assert relay.requires == {"connect", "relay", "shared_state"}
    share = relay.share_of(1, 2)
    assert share.requires == {"connect", "relay"}
    assert share.limits == {"idle_timeout": 5}


async def _decides(first: First) -> str:
    return "small"


def test_a_router_that_is_shared_out_has_the_same_routes_to_shares() -> None:
    pool = functools.partial(Pool, max_active=4)
    route = muxcore.Route(pool("a:1"), tls_name="example.com", alpn="h2")
    router = muxcore.Router(route, decide=_decides, pools={"small": pool("b:1")}, max_bytes=99)
    router.counts["routed"] += 1
    share = dispatch.share_of(router, 2, 2)
    assert repr(share.plan.routes) == repr(router.plan.routes)
    assert share.plan.decide is _decides
    pools = [share.plan.routes[0].pool, share.plan.pool_of("small")]
    assert [_taken(each) for each in pools] == [2, 2]
    assert [each.pool for each in share.services] == pools
    assert (share.max_bytes, share.counts) == (99, {})
    assert "shared_state" in router.requires
    assert share.requires == router.requires - {"shared_state"}
    assert route.pool.max_active == 4


_FILE = """
[listeners.in]
address = ["127.0.0.1:0", "unix:/run/x"]
pool = "db"
[listeners.also]
address = "unix:/run/y"
route = "all"
[routes.all]
default = "db"
[pools.db]
upstreams = ["a:1", {{address = "b:1", max_active = {}}}]
max_active = 8
queue = {}
"""


def test_what_a_file_says_is_shared_out_and_stays_so_when_it_is_read_again() -> None:
    whole = Served(read("relay.toml", _FILE.format(4, 6).encode()))
    ours, also = (dispatch.share_of(each, 1, 2) for each in whole.entrances.values())
    pool = ours.service.pool
    assert also.service.plan.default is pool
    assert "shared_state" not in {*ours.requires, *also.requires}
    assert (pool.queue, _taken(pool)) == (3, 4 + 2)
    ours.renewed(pickle.dumps(read("relay.toml", _FILE.format(6, 2).encode())))
    assert (pool.queue, _taken(pool)) == (1, 1)  # one more at b:1
    assert "shared_state" not in ours.requires
    assert ours.service.pool is also.service.plan.default is pool
    assert whole.pools["db"].queue == 6


@pytest.mark.parametrize("policy", ["least-connections", "round-robin"])
def test_an_engine_with_a_process_for_each_client_refuses_what_counts(policy: str) -> None:
    pool = Pool("a:1", policy=policy, queue=1)
    with pytest.raises(muxcore.CapabilityMissing, match="requires shared_state"):
        muxcore.Server(muxcore.Relay(pool), "127.0.0.1:0", engine="pure-process", workers=2)
