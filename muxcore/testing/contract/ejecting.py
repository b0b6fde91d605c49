"""A pool that ejects: who takes clients and does not answer them gets no more of them."""

from __future__ import annotations

from typing import Any

import muxcore
from muxcore.testing.contract.relaying import relays
from muxcore.testing.recorder import MADE, lost
from muxcore.testing.suite import EngineSuite, Run, eventually
from muxcore.testing.upstream import Upstream


class Ejecting(EngineSuite):
    def test_an_upstream_that_takes_clients_and_is_silent_is_ejected(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as mute, Upstream() as other:
            pool = _still(mute, other, eject_after=2, first_byte_timeout=0.05)
            with self.serving(relays(pool)) as run:
                for number in range(2):
                    with run.connect() as client:
                        client.send(b"?")
                        with run.accept(mute) as there:
                            assert there.read(1) == b"?"
                            client.read_end()
                            there.read_end()
                            end = lost("FirstByteTimeout")
                            assert run.life(client) == [MADE, end]
                    _answers(run, other)
                    assert pool.stats()[mute.address].unanswered == number + 1
                assert pool.stats()[mute.address].state == "ejected"
                for _ in range(3):
                    _answers(run, other)
                assert pool.stats()[mute.address].total == 2

    def test_who_asks_nothing_is_not_waited_for(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as upstream:
            pool = _still(upstream, eject_after=1, first_byte_timeout=0.01)
            with self.serving(relays(pool)) as run, run.connect() as client:
                there = run.accept(upstream)
                client.pause(0.1)
                there.send(b"here")
                assert client.read(4) == b"here"
                client.send(b"?")  # from now on it may be silent for as long as it likes
                assert there.read(1) == b"?"
                client.pause(0.1)
                there.send(b"!")
                assert client.read(1) == b"!"
                there.close()

    def test_an_upstream_that_resets_clients_before_it_answers_is_ejected(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as broken, Upstream() as other:
            pool = _still(broken, other, eject_after=1)
            with self.serving(relays(pool)) as run:
                client = run.connect()
                there = run.accept(broken)
                run.wait_for(MADE, client)
                client.send(b"?")
                assert there.read(1) == b"?"
                there.reset()
                client.read_end()
                _becomes(pool, broken, "ejected")
                for _ in range(2):
                    _answers(run, other)

    def test_an_upstream_that_closes_before_it_answers_is_ejected_once_it_was_asked(self) -> None:
        self.needs("relay", "timers")
        for limits in (muxcore.Limits(), muxcore.Limits(half_close_timeout=0)):
            with Upstream() as broken, Upstream() as other:
                pool = _still(broken, other, eject_after=1)
                with self.serving(relays(pool), limits=limits) as run:
                    with run.connect() as client:
                        run.accept(broken).close()  # nobody has asked it anything
                        client.read_eof()
                    run.life(client)
                    _answers(run, other)
                    assert pool.stats()[broken.address].state == "up"
                    with run.connect() as client:
                        client.send(b"?")
                        there = run.accept(broken)
                        assert there.read(1) == b"?"
                        there.close()
                        client.read_eof()
                    _becomes(pool, broken, "ejected")
                    _answers(run, other)

    def test_a_client_that_goes_unanswered_shows_nothing_of_its_upstream(self) -> None:
        self.needs("relay", "timers")
        with Upstream() as upstream, Upstream() as other:
            pool = _still(upstream, other, eject_after=1)
            for end in ("close", "reset"):
                with self.serving(relays(pool)) as run:
                    client = run.connect()
                    client.send(b"?")
                    there = run.accept(upstream)
                    assert there.read(1) == b"?"
                    getattr(client, end)()
                    there.read_end()
                    there.close()
                    run.life(client)
                    _answers(run, other)
            assert [each.unanswered for each in pool.stats().values()] == [0, 0]


def _still(*upstreams: Upstream, **options: Any) -> muxcore.Pool:
    """A pool for which no time passes: who rests does so for good."""
    return muxcore.Pool(*(each.address for each in upstreams), clock=lambda: 1.0, **options)


def _answers(run: Run, upstream: Upstream) -> None:
    """See that the next client is this upstream's."""
    with run.connect() as client:
        client.send(b"?")
        with run.accept(upstream) as there:
            assert there.read(1) == b"?"
            there.send(b"!")
            assert client.read(1) == b"!"
            client.close()
            there.read_eof()
    run.life(client)


def _becomes(pool: muxcore.Pool, upstream: Upstream, state: str) -> None:
    name = upstream.address
    eventually(
        lambda: pool.stats()[name].state == state,
        lambda: f"it is {pool.stats()[name]}, not {state}",
    )
