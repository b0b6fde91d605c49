"""From a pool to a connection: one upstream is tried after another, until one takes it.

What is then done with the connection is its caller's affair. What failed here, such as a want of
descriptors, costs a try, and says nothing of the upstream.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from muxcore.errors import NoUpstream
from muxcore.parts import first_bytes
from muxcore.parts.checking import begin
from muxcore.parts.outgoing import OUR_FAULT, Connects
from muxcore.parts.proxying import Told, header_for
from muxcore.pool import Lease, Pool, Upstream, key_of
from muxcore.pool.trials import Trials
from muxcore.protocol import Handle

_AGAIN = (0.45, 0.55)  # s between two rounds: a restart takes longer, and clients hardly notice
_ITSELF = "it is this server itself"


class Try(NamedTuple):
    """An upstream that was tried, and failed.

    Attributes:
        upstream: its address.
        why: it failed, in words.
        seconds: that it took.
    """

    upstream: str
    why: str
    seconds: float = 0.0


class Search:
    """A search for an upstream that takes a connection; it begins when it is made.

    Where all that are up have as many clients as they may, it waits for a place in the pool's
    queue, if there is one. Where none takes it, all are tried again for the pool's ``retry_for``.

    One of ``found`` and ``failed`` is called, once, in a later turn. It is the service and the
    protocol of the connection that is on its way, and lets go of its caller at the end.

    Args:
        pool: the upstreams.
        engine: the engine, or ``transport.server``.
        found: called with a transport and its lease, in ``connection_made``: the ``Upstream``, or
            a ``Trial`` where the pool's connections are on trial. It is the transport's protocol
            then, and counts its end; who sets another has to call its ``connection_lost`` at the
            end, a trial's at the end of this very connection.
        failed: called with ``NoUpstream``, or with ``ConnectionAbortedError`` where the server is
            ending.
        tries: upstreams that are tried at most; None means the pool's ``tries``.
        timeout: seconds for each try; None means the pool's ``connect_timeout``.
        key: for a pool with the policy "source"; b"": the client's address.
        joins: ``found`` does nothing with the transport but to join it with the client, so it may
            be less of one: see ``Engine.connect_side``. The engine is one then.
        client: whom the connection is for, as a PROXY header tells it where one is sent; None:
            nobody, so it is one of our own.

    Attributes:
        began: when the last try did, by the pool's clock.

    Raises:
        NoUpstream: there is none to wait for: all have ``max_active`` clients, for one.
        TypeError, ValueError: the timeout is no time, or ``tries`` is below 1.
    """

    __slots__ = (
        "_again",
        "_before",
        "_client",
        "_engine",
        "_failed",
        "_found",
        "_handle",
        "_joins",
        "_key",
        "_patience",
        "_pool",
        "_sends",
        "_since",
        "_timeout",
        "_trials",
        "_tried",
        "_tries",
        "_upstream",
        "began",
    )

    def __init__(
        self,
        pool: Pool,
        engine: Connects,
        found: Callable[[Any, Lease], object],
        failed: Callable[[BaseException], object],
        *,
        tries: int | None = None,
        timeout: float | None = None,
        key: bytes = b"",
        client: Told | None = None,
        joins: bool = False,
    ) -> None:
        if tries is None:
            tries = pool.tries
        elif tries < 1:
            raise ValueError(f"tries must be at least 1, not {tries!r}")
        self._pool = pool
        self._engine = engine
        self._found: Callable[[Any, Lease], object] | None = found  # None: it is over
        self._failed: Callable[[BaseException], object] | None = failed
        self._tries = tries
        self._timeout = pool.connect_timeout if timeout is None else timeout
        self._tried: dict[Upstream, Try] = {}  # those that failed
        self._upstream: Upstream | None = None  # that is connected to now
        if not key and client is not None and pool.policy == "source":
            key = key_of(client.get_extra_info("peername"))
        self._key = key
        self._client = client
        self._joins = joins
        self._sends = ""  # which PROXY header the upstream gets that is connected to
        self._trials: Trials | None = None  # which that connection will be on
        self._handle: Handle | None = None
        self._patience: Handle | None = None  # while it waits for a place: the end of that
        self._again: Handle | None = None  # while it waits for another round: the begin of that
        self._before: tuple[Try, ...] = ()  # those that failed in the round before
        self._since = pool.clock() if pool.retry_for else 0.0
        self.began = 0.0
        if pool.check is not None and pool.on_added is None:
            begin(pool, engine)
        if not self._try_next():
            raise self._nobody()

    @property
    def tries(self) -> tuple[Try, ...]:
        """Those that have failed in the last two rounds, in order; also after the end."""
        return self._before + tuple(self._tried.values())

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """(address, why) of each of them."""
        return tuple((each.upstream, each.why) for each in self.tries)

    @property
    def waits(self) -> bool:
        """Whether it waits for a place."""
        return self._patience is not None

    def cancel(self) -> None:
        """Drop it: nobody is told. Harmless, and idempotent, after an outcome."""
        if self._patience is not None:
            self._pool.give_up(self._has_place)
            self._wait_no_more()
        if self._again is not None:
            self._again.cancel()
        if self._handle is not None and self._upstream is not None:
            self._handle.cancel()
            self._pool.left(self._upstream)
        self._end()

    def _try_next(self, *, first: bool = False) -> bool:
        """Begin to connect to the next, or to wait for it; False: there is none.

        Args:
            first: it has waited longer than everybody else.
        """
        pool, tried = self._pool, self._tried
        while len(tried) < self._tries:
            upstream = pool.take(tried, self._key)
            if upstream is None:
                return self._wait(first) or self._rest()
            self.began = pool.clock()
            if upstream.is_self:
                self._blame(upstream, _ITSELF)
                continue
            try:
                self._handle = self._connect(upstream)
            except BaseException:  # it cannot be asked for
                pool.left(upstream)
                raise
            self._upstream = upstream
            return True
        return self._rest()

    def _rest(self) -> bool:
        """Begin to wait for another round; False: there is none to come."""
        pool = self._pool
        if not pool.retry_for or pool.is_busy() or pool.clock() - self._since >= pool.retry_for:
            return False
        self._again = self._engine.call_later(random.uniform(*_AGAIN), self._next_round)
        return True

    def _next_round(self) -> None:
        self._again = None
        self._before, self._tried = tuple(self._tried.values()), {}
        try:
            if self._try_next():
                return
            exc: BaseException = self._nobody()
        except OSError as raised:  # it cannot be connected to: the server is ending
            exc = raised
        self._give_up(exc)

    def _connect(self, upstream: Upstream) -> Handle:
        how = upstream.address, self, self._timeout
        own, pool = upstream.send_proxy, self._pool
        # what holds now; the pool may have changed by the time that it is connected
        self._sends = pool.send_proxy if own is None else own
        self._trials = pool.trials
        if self._trials is not None:
            first_bytes.begin(self._trials, self._engine)
        elif self._joins and not self._sends:
            return self._engine.connect_side(*how)
        return self._engine.connect(*how)

    def _wait(self, first: bool) -> bool:
        pool = self._pool
        if not pool.is_busy(self._tried) or not pool.wait(self._has_place, first=first):
            return False
        if self._patience is None:
            self._patience = self._engine.call_later(pool.queue_timeout, self._waited_too_long)
        if not pool.is_watched and (wait := pool._next_token()) is not None:
            pool.is_watched = True
            self._engine.call_later(wait, _wake, pool, self._engine)
        return True

    def _has_place(self) -> None:
        """It is its turn, and a place may be free."""
        waits = False
        try:
            if self._try_next(first=True):
                # it waits on, and no longer than it was to
                waits = self._handle is None and self._again is None
                return
            exc: BaseException = self._nobody()
        except OSError as raised:  # it cannot be connected to: the server is ending
            exc = raised
        finally:
            if not waits:
                self._wait_no_more()
        self._give_up(exc)

    def _waited_too_long(self) -> None:
        self._pool.give_up(self._has_place)
        self._patience = None
        self._give_up(self._nobody(self._pool.queue_timeout))

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self, exc: BaseException) -> None:
        failed = self._failed
        assert failed is not None
        self._end()
        failed(exc)

    def _note(self, upstream: Upstream, why: str) -> None:
        seconds = round(self._pool.clock() - self.began, 6)
        self._tried[upstream] = Try(upstream.name, why, seconds)

    def _blame(self, upstream: Upstream, why: str) -> None:
        self._note(upstream, why)
        self._pool.failed(upstream, self.began, why)

    def _nobody(self, waited: float | None = None) -> NoUpstream:
        """Return why there is none, which the pool counts."""
        pool, full = self._pool, self._pool.full()
        exc = NoUpstream(self.reasons, full, waited)
        reason = "waited" if waited is not None else "failed" if self._tried else ""
        pool.refusals.count(reason or ("full" if full else "down"), pool.name, exc.strerror)
        return exc

    def _end(self) -> None:
        self._found = self._failed = self._upstream = self._client = None
        self._handle = self._again = None

    # -- the connection on its way

    def __call__(self) -> Search:
        return self

    def connection_made(self, transport: Any) -> None:
        found, upstream, client = self._found, self._upstream, self._client
        assert found is not None
        assert upstream is not None
        self._end()
        self._pool.connected(upstream)
        header = header_for(self._sends, client)
        lease: Lease = upstream
        if self._trials is not None:
            lease = self._trials.begin(upstream, transport, self.began, len(header))
        transport.set_protocol(lease)
        if header:
            transport.write(header)
        found(transport, lease)

    def connection_lost(self, exc: BaseException) -> None:
        """Hear that there is no connection to the one that was tried."""
        upstream = self._upstream
        assert upstream is not None
        self._upstream = self._handle = None
        if isinstance(exc, ConnectionAbortedError):  # the server is ending
            self._pool.left(upstream)
            self._give_up(exc)
            return
        why = getattr(exc, "strerror", None) or str(exc)
        if getattr(exc, "errno", None) in OUR_FAULT:
            self._pool.left(upstream)
            self._note(upstream, why)
        else:
            self._blame(upstream, why)
        if not self._try_next():
            self._give_up(self._nobody())


def _wake(pool: Pool, engine: Connects) -> None:
    """Let those who wait for an upstream's rate go on, and look again while there are some."""
    wait = pool.wake_paced()
    pool.is_watched = wait is not None
    if wait is not None:
        engine.call_later(wait, _wake, pool, engine)
