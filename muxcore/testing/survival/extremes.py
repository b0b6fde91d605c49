"""Numbers at the edge of their type: they are served, or refused where they are made."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

import muxcore
from muxcore.limits import LONGEST, Limits
from muxcore.testing.peer import pattern
from muxcore.testing.recorder import LOST, MADE, Recorder, data
from muxcore.testing.suite import EngineSuite, eventually
from muxcore.testing.upstream import Upstream

_FIELDS = [field.name for field in dataclasses.fields(Limits)]
_NO_TIMES = ["3", -1, math.inf, math.nan]  # what no time-out can mean
_MONTH = 30 * 86_400.0  # s; more milliseconds than epoll_wait(2) takes
_MUCH = 4 << 20  # bytes; more than the kernel takes at once


class Extremes(EngineSuite):
    @pytest.mark.parametrize("name", _FIELDS)
    def test_a_server_works_with_each_limit_at_its_most(self, name: str) -> None:
        with self.serving(Recorder, limits=_at_most(name)) as run:
            for _ in range(2):
                peer = run.connect()
                peer.send(b"hello")
                assert run.wait_for(data(b"hello"), peer) == [MADE, data(b"hello")]
                peer.close()
                assert run.life(peer)[-1] == LOST

    @pytest.mark.parametrize("name", ["idle_timeout", "half_close_timeout"])
    def test_a_deadline_in_a_month_harms_nobody_until_then(self, name: str) -> None:
        limits: dict[str, Any] = {name: _MONTH}
        with Upstream() as upstream:
            relay = muxcore.Relay(upstream.address, **limits)
            with self.serving(relay) as run:
                peer = run.connect()
                there = run.accept(upstream)
                peer.shutdown_write()
                there.read_eof()
                there.send(b"still here")
                assert peer.read(10) == b"still here"

    def test_a_timer_that_is_due_late_harms_nobody_until_then(self) -> None:
        self.needs("timers", "threadsafe_calls")
        for delay in (_MONTH, 1e10, 1e300, 10**400):
            with self.serving(muxcore.Echo) as run:
                run.call(run.server.call_later, delay, print)
                run.play("send 5000; read 5000; shutdown-write; read-eof")

    def test_a_delay_that_is_no_time_is_refused(self) -> None:
        self.needs("timers", "threadsafe_calls")
        ran: list[int] = []
        with self.serving(muxcore.Echo) as run:
            for delay in ("3", math.inf, -math.inf, math.nan):
                with pytest.raises((TypeError, ValueError), match="call_later"):
                    run.call(run.server.call_later, delay, print)
            run.call(run.server.call_later, -1, ran.append, 1)  # as asyncio: at once
            eventually(lambda: ran == [1], "a delay below zero is none")

    @pytest.mark.parametrize("verb", ["connect", "relay"])
    def test_a_timeout_that_is_no_time_is_refused_and_nothing_has_begun(self, verb: str) -> None:
        self.needs("connect", "relay")

        class Asks(Recorder):
            def data_received(self, data: bytes) -> None:
                for timeout in _NO_TIMES:
                    self.note(_refused(functools.partial(self.ask, timeout)))
                self.transport.write(pattern(_MUCH))

            def ask(self, timeout: Any) -> None:
                if verb == "connect":
                    self.transport.server.connect(upstream.address, Recorder, timeout)
                else:
                    self.transport.relay(upstream.address, timeout=timeout)

        with Upstream() as upstream, self.serving(Asks) as run:
            peer = run.connect()
            peer.send(b"x")
            kinds = ["TypeError", "ValueError", "ValueError", "ValueError"]
            eventually(
                lambda: [e[1] for e in run.events(peer) if e[0] == "note"] == kinds, "all refused"
            )
            assert run.server.stats().outgoing == 0
            run.server.request_stop()  # the drain, too, is as if nobody had asked
            assert peer.read_all() == pattern(_MUCH)
            assert run.server.stop() is True

    def test_a_service_that_is_none_is_refused_and_nothing_has_begun(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def data_received(self, data: bytes) -> None:
                service: Any = None
                self.note(_refused(lambda: self.transport.server.connect("127.0.0.1:1", service)))

        with self.serving(Asks) as run:
            peer = run.connect()
            peer.send(b"x")
            run.wait_for(("note", "ServiceError"), peer)
            assert run.server.stats().outgoing == 0

    def test_a_connection_may_take_as_long_as_it_likes(self) -> None:
        self.needs("connect")

        class Asks(Recorder):
            def data_received(self, data: bytes) -> None:
                for timeout in (1e10, 1e300, 10**400):
                    self.transport.server.connect(upstream.address, muxcore.Discard, timeout)

        with Upstream() as upstream, self.serving(Asks) as run:
            peer = run.connect()
            peer.send(b"x")
            for _ in range(3):
                run.accept(upstream).close()
            peer.send(b"y")
            for _ in range(3):
                run.accept(upstream).close()


def _at_most(name: str) -> Limits:
    """Return limits of which one is the most it may be."""
    values: dict[str, Any] = {name: LONGEST}
    if "float" not in str(Limits.__dataclass_fields__[name].type):
        values[name] = most = {"processes": 2**22, "read_chunk": 2**26}.get(name, 2**31 - 1)
        if name.startswith("write_"):  # each is at most the next
            values |= {"write_high": most, "write_buffer": most}
    return Limits(**values)


def _refused(call: Callable[[], object]) -> str:
    """Return the name of the error by which a call is refused."""
    try:
        call()
    except Exception as exc:
        return type(exc).__name__
    return "not refused"
