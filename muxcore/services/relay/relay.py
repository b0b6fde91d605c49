"""The relay service: a client comes, an upstream is found for it, and the engine joins the two.

What Python does is over with the join: from there on no byte, and no event but the end of the
client's connection, comes back here. The upstream's side then has no protocol at all, and where
nobody follows them, by an access log or ``follow()``, the client's is shared by all clients of its
upstream: a pair that is idle costs what the engine needs for it.
"""

from __future__ import annotations

import copy
from typing import Any, Self

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import NoUpstream
from muxcore.limits import checked
from muxcore.parts import checking
from muxcore.parts.searching import Search, Try
from muxcore.pool import POLICIES, Lease, Pool, Trial, Upstream, UpstreamStats
from muxcore.services.relay import access_log as log
from muxcore.services.relay.own import is_own


class Relay:
    """A service that joins each client with an upstream.

    ::

        muxcore.serve(muxcore.Relay("db1:5432", "db2:5432"), 5432)

    ``muxcore.Pool`` says which upstream a client gets, after how many it is given up, and what
    becomes of one that fails. One relay belongs to one server; an upstream that is this server
    itself fails like one that cannot be connected to (see ``own.py``).

    Args:
        upstreams: addresses as in ``muxcore.address.parse``: names, IPv4, IPv6, unix paths; or one
            ``muxcore.Pool``, which brings ``policy`` and ``connect_timeout`` of its own.
        policy: of the pool that is made of addresses, as of ``Pool``; None means "round-robin".
        connect_timeout: seconds that connecting to one upstream may take.
        idle_timeout: seconds after which a pair in which no byte moves is cut.
        half_close_timeout: seconds for which one direction may go on after the other has ended; 0:
            the pair ends with the first direction, in order.
        max_connections: clients at once; further ones wait in the kernel's backlog.
        access_log: None; "text" or "json", a line a connection at level INFO through the logger
            ``muxcore.access``; a ``muxcore.services.relay.AccessLog``, which says what is in it;
            or a callable that takes a ``muxcore.services.relay.Record``.

    The three time-outs are laid over the server's limits of those names, and ``max_connections``
    over ``Limits.connections``; None leaves to the server what it has.

    Attributes:
        pool: the upstreams.
        clients: those that are here now, by their ids; None: nobody has asked for them.
        limits: what it lays over the server's ``Limits``.

    Raises:
        AddressError: an upstream's address is malformed, has port 0, or is given twice.
        TypeError: there is no upstream; or beside a pool there is what it brings itself.
        ValueError: the policy is unknown, or a number cannot work.
    """

    def __init__(
        self,
        *upstreams: str | int | Address | Upstream | Pool,
        policy: str | None = None,
        connect_timeout: float | None = None,
        idle_timeout: float | None = None,
        half_close_timeout: float | None = None,
        max_connections: int | None = None,
        access_log: str | log.Sink | None = None,
    ) -> None:
        self.limits = limits_of(
            "Relay",
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            half_close_timeout=half_close_timeout,
            max_connections=max_connections,
        )
        self.pool = _pool_of(upstreams, policy, connect_timeout)
        self.log = log.sink(access_log)
        self.clients: dict[str, _Client] | None = None
        self._looked_at: tuple[Upstream, ...] = ()

    def __call__(self) -> _Client:
        return _Client(self)

    def _client(self, first: bytes, age: float, listener: str) -> _Client:
        """Return the protocol of a client that has been here for a while, and was read from.

        Args:
            first: what it has sent.
            age: seconds since its accept.
            listener: the address that it connected to; "": it was not asked for.
        """
        return _Client(self, first, age, listener)

    @property
    def requires(self) -> frozenset[str]:
        """What it requires of an engine, and what its pool does."""
        return frozenset({"connect", "relay"}) | self.pool.requires

    def share_of(self, number: int, count: int) -> Self:
        """Return what one of several workers serves: its share of the pool."""
        shared = copy.copy(self)
        shared.pool = self.pool.share_of(number, count)
        return shared

    def follow(self) -> None:
        """Keep ``clients`` from now on: of those who come; in the engine's thread."""
        if self.clients is None:
            self.clients = {}

    def server_started(self, server: Any) -> None:
        """Check the upstreams from the server's start on, if that is wanted."""
        checking.begin(self.pool, server)

    def __repr__(self) -> str:
        return f"Relay({', '.join(repr(u.name) for u in self.pool.upstreams)})"

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each upstream's state and counters, by its address.

        From any thread. In the process model they are the children's, each its own, and here zero.
        """
        return self.pool.stats()

    def _look_at(self, server: Any) -> None:
        """Find the upstreams that are the server itself; anew where others were added."""
        if self._looked_at is not self.pool.upstreams:
            self._looked_at = self.pool.upstreams
            listening = [addresses.parse(each) for each in getattr(server, "addresses", ())]
            for upstream in self.pool.upstreams:
                comes_here = is_own(upstream.address, listening)
                upstream.is_self = comes_here and not is_own(upstream.address, self.pool.apart)


class _Client:
    """A client, from its accept to the join; where somebody follows it, to its end."""

    __slots__ = (
        *("_began", "_first", "_id", "_killed", "_lease", "_listener", "_refused", "_relay"),
        *("_search", "_took", "_transport", "_tries"),
    )

    def __init__(
        self, relay: Relay, first: bytes = b"", age: float = 0.0, listener: str = ""
    ) -> None:
        self._relay = relay
        self._first = first
        self._began = relay.pool.clock() - age
        self._id = ""  # nobody follows it
        self._listener = listener
        self._took: float | None = None  # s, to connect to its upstream
        self._search: Search | None = None  # that goes on
        self._lease: Lease | None = None  # of the upstream that it is joined with
        self._tries: tuple[Try, ...] = ()
        self._refused: tuple[str, ...] | None = None  # why, beside what was tried; None: it is not
        self._killed = False

    def connection_made(self, transport: Any) -> None:
        transport.pause_reading()  # nobody is there yet to take what it sends
        self._transport = transport
        relay = self._relay
        relay._look_at(transport.server)
        if relay.log is not None or relay.clients is not None:
            self._is_followed()
        try:
            self._search = Search(
                *(relay.pool, transport._engine, self._joins, self._has_none),
                client=transport,
                joins=True,
            )
        except NoUpstream as exc:
            self._has_none(exc)

    def draining(self) -> bool:
        return True  # it waits for an upstream, and is not idle

    def connection_lost(self, exc: BaseException | None) -> None:
        relay, transport, lease = self._relay, self._transport, self._lease
        self._transport = None  # else each would keep the other
        if self._search is not None:
            self._search.cancel()
            self._searched()
        if isinstance(lease, Upstream):  # a trial hears of it by itself
            lease.connection_lost(exc)
        if relay.clients is not None:
            relay.clients.pop(self._id, None)
        if relay.log is not None:
            relay.log(self._record(transport, exc))

    def _is_followed(self) -> None:
        """Somebody follows it: it has a name, and its start is told where that is wanted."""
        relay, transport = self._relay, self._transport
        self._id = log.new_id()
        if not self._listener:
            self._listener = log.client_name(transport.get_extra_info("sockname"))
        if relay.clients is not None:
            relay.clients[self._id] = self
        if isinstance(relay.log, log.AccessLog) and relay.log.start:
            relay.log(self._record(transport, None, event="start"))

    def _record(self, transport: Any, exc: BaseException | None, event: str = "end") -> log.Record:
        pool, lease, tries = self._relay.pool, self._lease, self._tries
        answered = transport.answered_after(self._began)
        failures = tuple([each.why for each in tries]) if tries else ()
        ended = None if event == "end" else ""
        if self._refused is not None:
            ended, failures = "refused", failures + self._refused
        return log.record_of(
            transport,
            lease.name if lease is not None else "",
            pool.clock() - self._began,
            exc,
            ended="killed" if self._killed else ended,
            failures=failures,
            event=event,
            id=self._id,
            listener=self._listener,
            pool=pool.name,
            connect=self._took,
            first_byte=None if answered is None else round(answered, 6),
            tries=tries,
        )

    # -- for who steers it, in the engine's thread

    def state(self) -> str:
        """Return how far it has come: "connecting", "queued" (for a place) or "joined"."""
        if self._search is None:
            return "joined"
        return "queued" if self._search.waits else "connecting"

    def record(self) -> log.Record | None:
        """Return what is known of it now, with its state for the event; None: it has ended."""
        transport = self._transport
        return None if transport is None else self._record(transport, None, event=self.state())

    def kill(self) -> bool:
        """End it at once; its log says so. Returns whether it was still there."""
        if self._transport is None:
            return False
        self._killed = True
        self._transport.abort()
        return True

    def _searched(self) -> None:
        """The search is over: keep what it has learnt."""
        search, self._search = self._search, None
        if search is not None:
            self._tries = search.tries

    def _joins(self, transport: Any, lease: Lease) -> None:
        """Join it with its upstream, of which ``transport`` is the connection."""
        if self._search is not None:
            self._took = round(self._relay.pool.clock() - self._search.began, 6)
        self._searched()
        side = self._transport
        first, self._first = self._first, b""
        self._lease = lease
        if isinstance(lease, Upstream):
            transport.set_protocol(None)  # of its end this side tells
        if side.is_closing():
            transport.abort()
            return
        if not self._id:
            side.set_protocol(None if isinstance(lease, Trial) else lease)
            self._transport = None  # else each would keep the other
        try:
            side.relay(transport, first=first)
        except ValueError:  # one of them is lost, and is about to hear so: the other goes with it
            transport.abort()
            side.abort()

    def _has_none(self, exc: BaseException) -> None:
        """There is no upstream to be had, or the server is ending."""
        self._searched()
        if isinstance(exc, NoUpstream):
            self._refused = exc.others
            self._tries = self._tries or tuple(Try(*each) for each in exc.reasons)
        self._transport.abort()


_LIMITS = {"max_connections": "connections"}  # the argument that has not its limit's name


def limits_of(owner: str, **given: Any) -> dict[str, Any]:
    """Return the fields of ``Limits`` that a relay's arguments are, but those that are None.

    Args:
        owner: the class that they were given to.
        given: by their names there.

    Raises:
        ValueError: one cannot work.
    """
    limits = {name: _LIMITS.get(name, name) for name in given}
    return {
        limits[name]: checked(owner, limits[name], value, name)
        for name, value in given.items()
        if value is not None
    }


def _pool_of(
    upstreams: tuple[str | int | Address | Upstream | Pool, ...],
    policy: str | None,
    connect_timeout: float | None,
) -> Pool:
    """Return the pool that was given, or make one of addresses."""
    pools = [each for each in upstreams if isinstance(each, Pool)]
    if not pools:
        where = [each for each in upstreams if not isinstance(each, Pool)]
        chosen = POLICIES[0] if policy is None else policy
        return Pool(*where, policy=chosen, connect_timeout=connect_timeout)
    if len(upstreams) > 1:
        raise TypeError("Relay takes addresses, or one Pool and nothing beside it")
    for name, value in (("policy", policy), ("connect_timeout", connect_timeout)):
        if value is not None:
            raise TypeError(f"Relay(Pool(…), {name}=…): a pool brings its own: Pool(…, {name}=…)")
    return pools[0]
