"""Checks of a pool's upstreams: each is connected to, and perhaps asked, from time to time.

Every upstream has a check of its own, which begins at a random moment of the first interval, so
that neither the upstreams of a pool nor the relays of an upstream are checked at once. It goes on
until the server ends, the upstream has left the pool, or nobody is relayed to that any more.

Each process checks for itself: what one worker finds, it alone knows. So of N workers an upstream
has N checks an interval, and is found out as soon as by one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from muxcore.parts.outgoing import OUR_FAULT, Connects
from muxcore.parts.proxying import header_for
from muxcore.pool import Pool, Upstream
from muxcore.pool.checks import Check
from muxcore.protocol import Handle

Steps: TypeAlias = list[tuple[bytes, bytes]]
"""What is said, and what the answer is to have in it."""

_JITTER = 0.1  # of the interval, either way
_ANSWER = 16_384  # bytes of an answer that are looked at


def begin(pool: Pool, engine: Connects) -> None:
    """Check the upstreams of a pool from now on, if that is wanted; in the engine's thread.

    Args:
        pool: it; once its checks run, nothing is done.
        engine: the engine, or ``transport.server``.
    """
    if pool.check is None or pool.on_added not in (None, _no_more):
        return

    def goes_on() -> bool:
        return pool.on_added is added

    def added(upstream: Upstream) -> None:
        check = pool.check
        if check is None:  # there were some, once
            return
        _Checks(pool, engine, upstream, check, _Verdict(pool, upstream, check), goes_on)
        if check.agent is not None and not upstream.address.path:
            _Checks(pool, engine, upstream, check, _Agent(pool, upstream), goes_on)

    pool.on_added = added
    for upstream in pool.upstreams:
        added(upstream)


def end(pool: Pool) -> None:
    """Check the upstreams no more, until :func:`begin`; what is under way ends first.

    A client that was on its way to them still gets there, and begins nothing: see ``Search``.
    """
    pool.on_added = _no_more


def _no_more(upstream: Upstream) -> None:
    """One was added to a pool that is not checked any more."""


class _Verdict:
    """What checks that fail and succeed make of an upstream."""

    def __init__(self, pool: Pool, upstream: Upstream, check: Check) -> None:
        self._pool = pool
        self._upstream = upstream
        self._check = check
        self._in_a_row = 0  # above 0: successes, below: failures
        self.where = upstream.address
        if check.port is not None and not self.where.path:
            self.where = replace(self.where, port=check.port)
        self.asks = bool(check.steps or check.send or check.expect)

    @property
    def steps(self) -> Steps:
        pool, upstream, check = self._pool, self._upstream, self._check
        (send, expect), *more = check.steps or ((check.send, check.expect),)
        header = pool.send_proxy if upstream.send_proxy is None else upstream.send_proxy
        if self.where.port != upstream.address.port:  # it is not the one that waits for a header
            header = ""
        return [(header_for(header, None) + send, expect), *more]

    @property
    def every(self) -> float:
        """Seconds until the next check."""
        check, is_down = self._check, bool(self._upstream.failing)
        wait = check.every_failing if is_down else None
        if (self._in_a_row > 0) if is_down else (self._in_a_row < 0):
            wait = check.every_unsure or wait
        return wait or check.every

    def is_good(self, expect: bytes, answer: bytes, is_whole: bool) -> bool | None:
        """Return whether an answer is what was expected; None: it may become that."""
        if expect in answer:
            return bool(answer) or None
        return False if is_whole else None

    def succeeded(self, answer: bytes) -> None:
        self._in_a_row = max(self._in_a_row, 0) + 1
        upstream = self._upstream
        waits = upstream.failing or upstream.rests_until is not None
        if upstream.ejected and not self.asks:  # that it takes connections is known
            return
        if waits and self._in_a_row >= self._check.rise:
            self._pool.recovered(upstream)

    def failed(self, why: str) -> None:
        self._in_a_row = min(self._in_a_row, 0) - 1
        if -self._in_a_row >= self._check.fall:
            self._pool.fails(self._upstream, why)


class _Agent:
    """What an agent says of an upstream; one that says nothing changes nothing."""

    asks = True

    def __init__(self, pool: Pool, upstream: Upstream) -> None:
        self._pool = pool
        self._upstream = upstream
        assert pool.check is not None
        assert pool.check.agent is not None
        self.steps: Steps = [(pool.check.agent_send, b"")]
        self.every = pool.check.every
        self.where = replace(upstream.address, port=pool.check.agent)

    def is_good(self, expect: bytes, answer: bytes, is_whole: bool) -> bool | None:
        """Return whether the line is complete: half a number would be another one."""
        if b"\n" in answer or b"\r" in answer:
            return True
        return False if is_whole else None

    def succeeded(self, answer: bytes) -> None:
        line = answer.replace(b"\r", b"\n").partition(b"\n")[0].decode("ascii", "replace")
        self._pool.heard(self._upstream, line)

    def failed(self, why: str) -> None:
        """Nothing is known then: its weight stays as it was (as in HAProxy)."""


class _Checks:
    """The checks of one upstream, and the protocol of their connections."""

    def __init__(
        self,
        pool: Pool,
        engine: Connects,
        upstream: Upstream,
        check: Check,
        judge: _Verdict | _Agent,
        goes_on: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._upstream = upstream
        self._check = check
        self._judge = judge
        self._goes_on = goes_on
        self._steps: Steps = []  # that are left
        self._number = 0  # of the first of them
        self._answer = b""
        self._transport: Any = None
        self._patience: Handle | None = None  # while one goes on: the end of that
        engine.call_later(check.every * random.random(), self._begin)

    def _is_wanted(self) -> bool:
        pool = self._pool
        is_its = pool.check is self._check and self._upstream in pool.upstreams
        return is_its and self._goes_on()

    def _begin(self) -> None:
        if not self._is_wanted():
            return
        self._answer, self._number = b"", 1
        self._steps = list(self._judge.steps)
        try:
            handle = self._engine.connect(self._judge.where, self._connection, self._check.timeout)
        except OSError as exc:  # we have no descriptor, or the server is ending
            self._over(exc)
            return
        self._patience = self._engine.call_later(self._check.timeout, self._late, handle.cancel)

    def _connection(self) -> _Checks:
        return self

    def _late(self, cancel: Callable[[], object]) -> None:
        self._patience = None
        cancel()
        self._fail(f"its check took more than {self._check.timeout:g} s{self._at()}")

    def _over(self, exc: BaseException | None) -> None:
        """It has failed; whoever is to blame."""
        if isinstance(exc, ConnectionAbortedError):  # the server is ending
            self._end()
        elif getattr(exc, "errno", None) in OUR_FAULT:
            self._end()
            self._next()
        else:
            why = "it was closed without the answer" if exc is None else str(exc)
            self._fail((getattr(exc, "strerror", None) or why) + self._at())

    def _at(self) -> str:
        return f", at step {self._number}" if self._check.steps and self._number > 1 else ""

    def _fail(self, why: str) -> None:
        self._end()
        if self._is_wanted():
            self._judge.failed(why)
            self._next()

    def _succeed(self) -> None:
        self._end()
        if self._is_wanted():
            self._judge.succeeded(self._answer)
            self._next()

    def _end(self) -> None:
        """Let go of the connection, of which nothing more is heard."""
        transport, self._transport = self._transport, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if transport is not None:
            transport.set_protocol(None)
            transport.abort()

    def _next(self) -> None:
        wait = self._judge.every * (1 - _JITTER + 2 * _JITTER * random.random())
        self._engine.call_later(wait, self._begin)

    # -- the connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._steps[0][0]:
            transport.write(self._steps[0][0])
        if not self._judge.asks:
            self._succeed()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        self._look(len(self._answer) >= _ANSWER)

    def eof_received(self) -> None:
        self._look(True)
        if self._transport is not None:
            self._judged(False)

    def _look(self, is_whole: bool) -> None:
        """See how far its answer brings the check; what says nothing new has had its answer."""
        while (good := self._judge.is_good(self._steps[0][1], self._answer, is_whole)) is not None:
            if not good or len(self._steps) == 1:
                self._judged(good)
                return
            del self._steps[0]
            self._number += 1
            if send := self._steps[0][0]:
                self._answer = b""
                self._transport.write(send)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._over(exc)

    def _judged(self, good: bool) -> None:
        if good:
            self._succeed()
        else:
            what = f"its check expected another answer than {self._answer[:40]!r}"
            self._fail(what + self._at())
