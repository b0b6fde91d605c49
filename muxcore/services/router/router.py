"""A relay with several pools: a client goes where its first bytes, or somebody's decision, say."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from muxcore._seldom import Seldom
from muxcore.limits import seconds
from muxcore.parts import checking, dispatch
from muxcore.pool import Pool
from muxcore.pool.upstream import checked_count
from muxcore.protocol import ServerCalls
from muxcore.services.relay import access_log as log
from muxcore.services.relay.relay import Relay, limits_of
from muxcore.services.router.first import Decide
from muxcore.services.router.plan import Plan
from muxcore.services.router.route import Route

if TYPE_CHECKING:
    from muxcore.services.router.choosing import Choosing
    from muxcore.services.router.deciding import Decisions, InThread

logger = logging.getLogger("muxcore")

_MOST = 1 << 20  # bytes that are kept of a client: HAProxy's and nginx' buffers have 16 KiB
_NO_POOLS: Mapping[str, Pool] = MappingProxyType({})


class Router:
    """A service that joins each client with an upstream of the pool that its first bytes say.

    ::

        web, ssh = muxcore.Pool("web1:443", "web2:443"), muxcore.Pool("host:22")
        router = muxcore.Router(
            muxcore.Route(web, tls_name=["example.com", "*.example.com"]),
            muxcore.Route(ssh, protocol="ssh"),
        )
        muxcore.serve(router, "0.0.0.0:443")

    The first route that matches has the client; a pool has it as ``Relay`` would, and gets every
    byte. It waits only as long as what is yet to come can say another route, and not for a byte
    where none is asked for. It does so for ``first_bytes`` seconds, for ``max_bytes``, and until
    the client ends: then what has come is all that counts.

    Args:
        routes: rules, in order.
        default: the pool of those whom no route takes; None: they are refused.
        decide: called with a ``First`` about those, instead: it returns a pool, a name in
            ``pools``, or None, which refuses the client. A coroutine is awaited in the server's
            loop under ``muxcore.aio``, else in a thread with a loop; a plain function holds up all
            others. One that raises costs its client alone.
        pools: by the names that ``decide`` may return.
        first_bytes: seconds, from the accept on; 0: no byte is waited for.
        decide_timeout: seconds that a decision may take; then it is cancelled, and its client
            refused.
        max_bytes: of a client that are looked at.
        idle_timeout, half_close_timeout, max_connections, access_log: as of ``Relay``.

    Attributes:
        services: a ``Relay`` for each pool that is named.
        counts: clients in this process: "routed", "default" and "decided" went on; "refused" (no
            route, or the decision said so), "failed" (the decision), "late" (that, too) and "ended"
            (by themselves, before it was known where) did not.
        limits, requires: as of ``Relay``.
        plan: what it goes by now.

    Raises:
        TypeError: something is no ``Route``, no pool, or not callable.
        ValueError: a number cannot work; there is nothing to go by; or a default, or pools, could
            never be needed.
    """

    _name = ""  # what a file calls it, for logs and metrics

    def __init__(
        self,
        *routes: Route,
        default: Pool | None = None,
        decide: Decide | None = None,
        pools: Mapping[str, Pool] = _NO_POOLS,
        first_bytes: float = 3.0,
        decide_timeout: float = 5.0,
        max_bytes: int = 16_384,
        idle_timeout: float | None = None,
        half_close_timeout: float | None = None,
        max_connections: int | None = None,
        access_log: str | log.Sink | None = None,
    ) -> None:
        self.limits = limits_of(
            "Router",
            idle_timeout=idle_timeout,
            half_close_timeout=half_close_timeout,
            max_connections=max_connections,
        )
        from muxcore.services.router.choosing import Choosing  # who routes nobody needs no parser

        self._choosing = Choosing
        self.first_bytes = seconds("Router(first_bytes=…): first_bytes", first_bytes)
        self.decide_timeout = seconds("Router(decide_timeout=…): decide_timeout", decide_timeout)
        if not self.decide_timeout:
            raise ValueError("Router(decide_timeout=0): decide_timeout must be above 0, not 0")
        self.max_bytes = checked_count("Router", "max_bytes", max_bytes, _MOST)
        self.log = log.sink(access_log)
        self.counts: Counter[str] = Counter()
        self._access_log = access_log
        self._seldom = Seldom(logger.warning)
        self._failures = Seldom(logger.error)
        self._server: Any = None
        self._thread: InThread | None = None
        self.plan = self._planned(routes, default, decide, pools, {})

    def __call__(self) -> Choosing:
        return self._choosing(self)

    def __repr__(self) -> str:
        return f"Router({', '.join(map(repr, self.services))})"

    def change(
        self,
        *routes: Route,
        default: Pool | None = None,
        decide: Decide | None = None,
        pools: Mapping[str, Pool] = _NO_POOLS,
    ) -> None:
        """Send those who come from now on by other routes; in the engine's thread.

        All of it is new: what is not given is not there. Who is here stays as it is, and what is
        known of a pool that stays is still known.

        Raises:
            TypeError, ValueError: see ``Router``.
            CapabilityMissing: the engine lacks what a pool requires. Nothing has changed then.
        """
        before = self.plan.relays
        plan = self._planned(routes, default, decide, pools, before)
        server = self._server
        if server is not None:
            for capability in sorted(_required(plan) - server.capabilities):
                server._engine.need(capability)
        self.plan = plan
        for pool, relay in plan.relays.items():
            if pool not in before and server is not None:
                relay.server_started(server)
        for pool in before.keys() - plan.relays.keys():
            checking.end(pool)

    def _become(self, other: Router) -> None:
        """Be as another router that serves nobody; see ``change``; all else may change as well.

        Args:
            other: it.
        """
        self.first_bytes, self.max_bytes = other.first_bytes, other.max_bytes
        self.decide_timeout = other.decide_timeout
        self.log, self._access_log = other.log, other._access_log
        for relay in self.services:
            relay.log = self.log
        self.change(*other.plan.routes, **other.plan.rest)

    def _planned(
        self,
        routes: tuple[Route, ...],
        default: Pool | None,
        decide: Decide | None,
        pools: Mapping[str, Pool],
        before: Mapping[Pool, Relay],
    ) -> Plan:
        if not routes and default is None and decide is None:
            raise ValueError("Router(): everybody is refused: give a Route, default= or decide=")
        longest = max((len(each) for route in routes for each in _beginnings(route)), default=0)
        if longest > self.max_bytes:
            raise ValueError(
                f"Router(max_bytes={self.max_bytes}): a route's starts_with has {longest} bytes"
            )
        return Plan(routes, default, decide, pools, self._access_log, before)

    # -- what a server asks of a service

    @property
    def services(self) -> tuple[Relay, ...]:
        return tuple(self.plan.relays.values())

    @property
    def requires(self) -> frozenset[str]:
        """What it requires of an engine, and what its pools do."""
        return _required(self.plan)

    def share_of(self, number: int, count: int) -> Self:
        """Return what one of several workers serves: its share of each pool."""
        shared = copy.copy(self)
        shared.counts = Counter()
        routes, rest = self.plan.shared(lambda pool: pool.share_of(number, count))
        shared.plan = self._planned(routes, **rest, before={})
        return shared

    def server_started(self, server: Any) -> None:
        """Check the upstreams from the server's start on, if that is wanted."""
        self._server = server
        for relay in self.services:
            relay.server_started(server)

    def server_ended(self) -> None:
        """End the thread of decisions, if there is one."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    # -- for its clients

    def _decisions(self, server: ServerCalls) -> Decisions:
        """Return where decisions are awaited."""
        import asyncio  # who awaits none needs no loop

        from muxcore.services.router.deciding import InLoop, InThread

        try:
            return InLoop(asyncio.get_running_loop())
        except RuntimeError:  # none runs here
            if self._thread is None:
                self._thread = InThread(server)
            return self._thread

    def _refused(self, transport: Any, what: str, why: str) -> None:
        """Close a connection, and tell of it at a bounded rate.

        Args:
            transport: the connection.
            what: the count's name.
            why: for the log.
        """
        self.counts[what] += 1
        by = f" by {self._name}" if self._name else ""
        peer = dispatch.peer_of(transport)
        self._seldom.tell("connection from %s is refused%s: %s", peer, by, why)
        transport.abort()

    def _failed(self, transport: Any, decide: Any, exc: BaseException) -> None:
        """Close a connection of which a decision has failed; strangers may know how to make it."""
        self.counts["failed"] += 1
        self._failures.tell(
            "%s failed to decide; its connection with %s is closed",
            *(dispatch.describe(decide), dispatch.peer_of(transport)),
            exc_info=exc,
        )
        transport._fail(exc)


def _required(plan: Plan) -> frozenset[str]:
    own = {"connect", "relay", "timers"} | ({"threadsafe_calls"} if plan.decide else set())
    return frozenset(own.union(*(pool.requires for pool in plan.relays)))


def _beginnings(route: Any) -> tuple[bytes, ...]:
    return route.starts_with if isinstance(route, Route) else ()
