"""A pool that cuts: whose upstream is failing, or is a backup that is needed no more, is let go."""

from __future__ import annotations

from typing import Any

import muxcore
from muxcore.testing.contract.relaying import relays
from muxcore.testing.peer import Peer
from muxcore.testing.recorder import MADE, lost
from muxcore.testing.suite import EngineSuite, Run
from muxcore.testing.upstream import Upstream

_CUT = [MADE, lost("PairCut")]


class Cutting(EngineSuite):
    def test_clients_of_an_upstream_that_is_failing_are_cut_and_no_others(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as bad, Upstream() as good:
            pool = muxcore.Pool(bad.address, good.address, cut_failing=True, check=_NEVER)
            with self.serving(relays(pool)) as run:
                answered, there = _talks(run, bad)
                stays, its = _talks(run, good)
                asks = run.connect()
                asks.send(b"?")
                waits = run.accept(bad)
                assert waits.read(1) == b"?"
                run.server.call_soon_threadsafe(pool.fails, pool.upstreams[0], "it is late")
                for each in (answered, asks):
                    each.read_end()
                    assert run.life(each) == _CUT
                for each in (there, waits):
                    each.read_end()
                stays.send(b"still here")
                assert its.read(10) == b"still here"
                assert [each.active for each in pool.stats().values()] == [0, 1]

    def test_clients_of_backups_are_cut_once_another_is_back(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as first, Upstream() as spare:
            backup = muxcore.Upstream(spare.address, backup=True)
            pool = muxcore.Pool(first.address, backup, cut_backups=True)
            pool.fails(pool.upstreams[0], "it is late")
            with self.serving(relays(pool)) as run:
                client, there = _talks(run, spare)
                run.server.call_soon_threadsafe(pool.recovered, pool.upstreams[0])
                client.read_end()
                assert run.life(client) == _CUT
                there.read_end()
                stays, its = _talks(run, first)
                run.server.call_soon_threadsafe(pool.recovered, pool.upstreams[1])
                with run.held():  # it has heard that
                    stays.send(b"still here")
                assert its.read(10) == b"still here"


_NEVER = muxcore.Check(every=1e6)


def _talks(run: Run, upstream: Upstream) -> tuple[Peer, Peer]:
    """Return the next client, which has been answered, and its upstream's side."""
    client: Any = run.connect()
    client.send(b"?")
    there = run.accept(upstream)
    assert there.read(1) == b"?"
    there.send(b"!")
    assert client.read(1) == b"!"
    return client, there
