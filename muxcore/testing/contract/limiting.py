"""Bytes a second: never too many in any time, all of them in the end, and the loop sleeps between.

Nothing here depends on how fast the machine is: a rate bounds what may come from above, and that
holds on one that stands still, too.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from muxcore import CapabilityMissing, Limits, Rate
from muxcore.rate import MOST_RATES
from muxcore.testing.peer import pattern
from muxcore.testing.recorder import EOF, LOST, MADE, Recorder, data, lost
from muxcore.testing.suite import EngineSuite, Run

_RATE, _BURST = 200_000, 4096  # bytes a second, and a quantum of 2,048
_SIZE = 20_480
_STILL = 100  # bytes that come at once; at one a second the next ones take half a minute


class Limiting(EngineSuite):
    def test_no_time_brings_more_than_its_rate_and_a_burst_and_all_arrives(self) -> None:
        self.needs("rates")
        with self.serving(limited(Rate(_RATE, _BURST))) as run:
            peer = run.connect()
            peer.send(_SIZE)
            peer.shutdown_write()
            events = run.life(peer)
            assert [e for e in events if e[0] != "note"] == [MADE, data(pattern(_SIZE)), EOF, LOST]
            assert ("note", "too many") not in events

    def test_it_holds_for_who_brings_buffers_too(self) -> None:
        self.needs("rates", "shared_state")

        class Buffers(Clocked):
            rates = (Rate(_RATE, _BURST),)
            data_received: Any = property()  # which it does not have

            def get_buffer(self, sizehint: int) -> bytearray:
                self.buffer = bytearray(_SIZE)
                return self.buffer

            def buffer_updated(self, nbytes: int) -> None:
                self.came(bytes(self.buffer[:nbytes]))

        with self.serving(Buffers) as run:
            peer = run.connect()
            peer.send(_SIZE)
            peer.shutdown_write()
            events = run.life(peer)
            assert data(pattern(_SIZE)) in events
            assert ("note", "too many") not in events

    @pytest.mark.parametrize("verb", ["echo", "discard"])
    def test_a_verb_keeps_to_it(self, verb: str) -> None:
        self.needs("rates")
        begun = time.monotonic()
        with self.serving(limited(Rate(_RATE, _BURST), verb)) as run:
            peer = run.connect()
            peer.send(_SIZE)
            peer.shutdown_write()
            if verb == "echo":
                peer.read_pattern(_SIZE)
            peer.read_eof()
            assert run.server.stats().bytes_in == _SIZE
        assert _RATE * (time.monotonic() - begun) + _BURST >= _SIZE

    def test_each_direction_of_a_relay_keeps_to_its_own(self) -> None:
        self.needs("rates", "relay", "shared_state")
        with self.serving(limited_pair(Rate(_RATE, _BURST))) as run:
            fast, slow = run.connect(), run.connect()
            run.protocol(slow)
            begun = time.monotonic()
            slow.send(_SIZE)
            fast.send(10 * _SIZE)
            slow.read_pattern(10 * _SIZE)
            fast.read_pattern(_SIZE)
            assert _RATE * (time.monotonic() - begun) + _BURST >= _SIZE
            slow.shutdown_write()
            fast.read_eof()
            fast.close()
            assert run.life(slow)[-1] == LOST

    def test_those_who_share_a_rate_get_alike(self) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        rate, come = Rate(_RATE, _BURST), [0, 0, 0]

        class Shares(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.limit(rate)
                transport.pause_reading()

            def data_received(self, data: bytes) -> None:
                if max(come) < 2 * _SIZE // 3:  # as long as all of them have more
                    come[protocols.index(self)] += len(data)
                    if max(come) - min(come) > 2 * _BURST:  # its burst was one's, and a turn
                        self.note(list(come))
                super().data_received(data)

        with self.serving(Shares) as run:
            peers = [run.connect() for _ in come]
            protocols = [run.protocol(peer) for peer in peers]
            for peer in peers:
                peer.send(_SIZE)
                peer.shutdown_write()
            run.call(lambda: [each.transport.resume_reading() for each in protocols])
            for peer in peers:
                assert run.life(peer) == [MADE, data(pattern(_SIZE)), EOF, LOST]

    def test_others_are_served_and_the_loop_sleeps_while_one_waits(self) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        with self.serving(First) as run:
            waits(run)
            cpu, wall = run.call(time.thread_time), time.monotonic()
            time.sleep(0.1)
            cpu = run.call(time.thread_time) - cpu
            assert cpu < 0.5 * (time.monotonic() - wall)  # a loop that spins has all there is
            other = run.connect()
            other.send(5 * _SIZE)
            other.shutdown_write()
            assert data(pattern(5 * _SIZE)) in run.life(other)

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_who_waits_is_ended_by_its_own_side(self, end: str) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        with self.serving(First) as run:
            peer = waits(run)
            run.call(getattr(run.protocol(peer).transport, end))
            assert run.life(peer) == [MADE, data(pattern(_STILL)), LOST]
            peer.read_end()

    def test_who_waits_is_ended_with_the_server(self) -> None:
        self.needs("rates", "shared_state")
        with self.serving(First) as run:
            peer = waits(run)
            run.server.stop()
            assert run.life(peer) == [MADE, data(pattern(_STILL)), LOST]

    def test_who_waits_hears_a_reset(self) -> None:
        self.needs("rates", "shared_state", "hears_resets")
        with self.serving(First) as run:
            peer = waits(run)
            peer.reset()
            assert run.life(peer)[-1] == lost("ConnectionResetError")

    def test_who_waits_is_not_idle(self) -> None:
        self.needs("rates", "shared_state")
        slow = Rate(10_000, _BURST)  # a quantum takes 0.2 s
        with self.serving(limited(slow), limits=Limits(idle_timeout=0.05)) as run:
            peer = run.connect()
            peer.send(2 * _BURST)
            peer.shutdown_write()
            events = run.life(peer)
            assert [e for e in events if e[0] != "note"][1:] == [
                data(pattern(2 * _BURST)),
                EOF,
                LOST,
            ]

    def test_a_drain_does_not_take_who_waits_for_one_at_rest(self) -> None:
        self.needs("rates", "shared_state", "drain")
        limits = Limits(drain_timeout=600, drain_idle=0.01)
        with self.serving(limited(Rate(10_000, _BURST)), limits=limits) as run:
            peer = run.connect()
            peer.send(2 * _BURST)
            peer.shutdown_write()
            run.wait_for("data_received", peer)
            run.server.request_drain()
            assert run.life(peer) == [MADE, data(pattern(2 * _BURST)), EOF, LOST]

    def test_a_change_and_an_end_of_limits_hold_at_once_for_who_waits(self) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        for faster in (True, False):
            with self.serving(First) as run:
                peer = waits(run)
                protocol = run.protocol(peer)
                if faster:
                    run.call(protocol.rate.change, 2**40)
                else:
                    run.call(protocol.transport.limit)
                peer.shutdown_write()
                assert run.life(peer) == [MADE, data(pattern(_SIZE)), EOF, LOST]

    def test_a_pause_and_a_rate_do_not_lift_each_other(self) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        with self.serving(First) as run:
            peer = waits(run)
            transport = run.protocol(peer).transport
            run.call(transport.pause_reading)
            run.call(transport.resume_reading)
            run.call(transport.pause_reading)
            run.call(run.protocol(peer).rate.change, 2**40)
            peer.pause(0.03)
            assert run.events(peer) == [MADE, data(pattern(_STILL))]
            run.call(transport.resume_reading)
            peer.shutdown_write()
            assert run.life(peer) == [MADE, data(pattern(_SIZE)), EOF, LOST]

    def test_a_rate_outlives_its_connections_and_the_name_that_python_had_for_it(self) -> None:
        self.needs("rates", "shared_state", "threadsafe_calls")
        with self.serving(First) as run:
            peer = waits(run)
            rate = run.protocol(peer).rate
            run.call(run.protocol(peer).transport.abort)
            run.life(peer)
            again = run.connect()
            run.call(run.protocol(again).transport.limit, rate)
            again.send(_SIZE)
            again.pause(0.03)
            assert run.events(again) == [MADE]  # what the one before has used is used up
            del run.protocol(peer).rate, rate
            run.call(run.protocol(again).transport.limit)
            again.shutdown_write()
            assert run.life(again) == [MADE, data(pattern(_SIZE)), EOF, LOST]

    def test_what_cannot_be_a_limit_is_refused(self) -> None:
        self.needs("rates", "shared_state")
        foreign = Rate(1)

        class Misuses(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                with pytest.raises(TypeError, match="limit"):
                    transport.limit(1000)
                with pytest.raises(ValueError, match=f"{MOST_RATES} rates"):
                    transport.limit(*(Rate(1) for _ in range(MOST_RATES + 1)))
                with pytest.raises(ValueError, match="another server"):
                    transport.limit(foreign)
                transport.limit(*[Rate(1)] * (MOST_RATES + 1))  # the same one counts once
                transport.close()
                transport.limit(Rate(1))  # too late, and no error
                self.note("refused")

        with self.serving(limited(foreign)) as other:
            other.protocol(other.connect())
            with self.serving(Misuses) as run:
                peer = run.connect()
                assert run.life(peer) == [MADE, ("note", "refused"), LOST]

    def test_an_engine_without_rates_says_so(self) -> None:
        if "rates" in self.capabilities:
            return

        class Asks(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                with pytest.raises(CapabilityMissing, match=r"has no rates.*limit"):
                    transport.limit(Rate(1))
                transport.close()

        with self.serving(Asks) as run:
            assert run.life(run.connect()) == [MADE, LOST]


class Clocked(Recorder):
    """A recorder that counts against rates, and notes where more came than they allow."""

    rates: tuple[Rate, ...] = ()
    verb_name = ""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.begun, self.size = time.monotonic(), 0
        transport.limit(*self.rates)
        if self.verb_name:
            getattr(transport, self.verb_name)()

    def data_received(self, data: bytes) -> None:
        self.came(data)

    def came(self, data: bytes) -> None:
        self.size += len(data)
        passed = time.monotonic() - self.begun
        if any(self.size > each.bytes_per_second * passed + each.burst for each in self.rates):
            self.note("too many")
        self.record("data_received", data)


def limited(rate: Rate, verb: str = "") -> type[Clocked]:
    """Return a protocol whose connections count against a rate, under a verb or none."""

    class LimitedOnes(Clocked):
        rates = (rate,)
        verb_name = verb

    return LimitedOnes


def limited_pair(rate: Rate) -> type[Recorder]:
    """Return a protocol that joins the second connection, which has a rate, with the first."""
    waiting: list[Any] = []

    class Pair(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if waiting:
                transport.limit(rate)
                transport.relay(waiting.pop())
            else:
                transport.pause_reading()
                waiting.append(transport)

    return Pair


class First(Recorder):
    """The first connection of a server has a rate at which nothing more comes in a test's time."""

    rate = Rate(1, _STILL)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.journal.protocols) == 1:
            self.rate = Rate(1, _STILL)
            transport.limit(self.rate)


def waits(run: Run) -> Any:
    """Return the first peer, which has more to send than its rate lets in."""
    peer = run.connect()
    run.protocol(peer)
    peer.send(_SIZE)
    run.wait_for(data(pattern(_STILL)), peer)
    return peer
