"""The relay service: a client comes, an upstream is found for it, and the engine joins the two.

What Python does is over with the join: from there on no byte, and no event but the end of the
client's connection, comes back here. The upstream's side then has no protocol at all, and without
an access log the client's is shared by all clients of its upstream: a pair that is idle costs what
the engine needs for it.
"""

from __future__ import annotations

import errno
from typing import Any

from muxcore import address as addresses
from muxcore.address import Address
from muxcore.errors import AddressError
from muxcore.limits import Limits
from muxcore.services.relay import access_log as log
from muxcore.services.relay.own import is_own
from muxcore.services.relay.upstreams import POLICIES, Upstream, Upstreams, UpstreamStats

_TRIES = 3  # upstreams that one client is given: with many that do not answer it would wait for all

# What failed here, and says nothing of the upstream.
_OUR_FAULT = frozenset(
    {
        errno.EAGAIN,  # Limits.connections
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,  # no local port is left for this destination
    }
)


class Relay:
    """A service that joins each client with an upstream.

    ::

        muxcore.serve(muxcore.Relay("db1:5432", "db2:5432"), 5432)

    An upstream that cannot be connected to is left alone for half a second, then twice as long
    each time, up to 30 s, and gets one client as a probe after each pause; meanwhile clients get
    the next. A client is given up after three upstreams. One relay belongs to one server; an
    upstream that is this server itself fails like one that cannot be connected to (see ``own.py``).

    Args:
        upstreams: addresses as in ``muxcore.address.parse``: names, IPv4, IPv6, unix paths.
        policy: "round-robin", in turns; or "least-connections", the one with the fewest clients
            of ours, which needs an engine with ``shared_state``.
        connect_timeout: seconds that connecting to one upstream may take.
        idle_timeout: seconds after which a pair in which no byte moves is cut.
        half_close_timeout: seconds for which one direction may go on after the other has ended.
        max_connections: clients at once; further ones wait in the kernel's backlog.
        access_log: None; "text" or "json", a line a connection at level INFO through the logger
            ``muxcore.access``; or a callable that takes a ``muxcore.services.relay.Record``.

    The three time-outs and ``max_connections`` are the server's limits of those names (and
    ``Limits.connections``); None leaves to the server what it has.

    Attributes:
        limits: what it lays over the server's ``Limits``.
        requires: what it requires of an engine.

    Raises:
        AddressError: an upstream's address is malformed, has port 0, or is given twice.
        TypeError: there is no upstream.
        ValueError: the policy is unknown, or a number cannot work.
    """

    def __init__(
        self,
        *upstreams: str | int | Address,
        policy: str = "round-robin",
        connect_timeout: float | None = None,
        idle_timeout: float | None = None,
        half_close_timeout: float | None = None,
        max_connections: int | None = None,
        access_log: str | log.AccessLog | None = None,
    ) -> None:
        if not upstreams:
            raise TypeError("Relay needs at least one upstream, such as 'db1:5432'")
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        given = {
            "connect_timeout": ("connect_timeout", connect_timeout),
            "idle_timeout": ("idle_timeout", idle_timeout),
            "half_close_timeout": ("half_close_timeout", half_close_timeout),
            "max_connections": ("connections", max_connections),
        }
        self.limits = {
            limit: _checked(name, limit, value)
            for name, (limit, value) in given.items()
            if value is not None
        }
        shared = {"shared_state"} if policy == "least-connections" else set()
        self.requires = frozenset({"connect", "relay"} | shared)
        self.connect_timeout = connect_timeout
        self.upstreams = Upstreams(_parsed(upstreams), policy)
        self.log = log.sink(access_log)
        self._has_looked = False
        self._counting = {upstream: _Counting(upstream) for upstream in self.upstreams.all}

    def __call__(self) -> _Client:
        return _Client(self)

    def __repr__(self) -> str:
        return f"Relay({', '.join(repr(u.name) for u in self.upstreams.all)})"

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each upstream's state and counters, by its address.

        From any thread. In the process model they are the children's, each its own, and here zero.
        """
        return self.upstreams.stats()

    def _look_at(self, server: Any) -> None:
        """Find the upstreams that are the server itself; once: it has its addresses for good."""
        if not self._has_looked:
            self._has_looked = True
            listening = [addresses.parse(each) for each in getattr(server, "addresses", ())]
            for upstream in self.upstreams.all:
                upstream.is_self = is_own(upstream.address, listening)

    def _hears_of(self, upstream: Upstream) -> Any:
        """Return the protocol of all clients joined with an upstream, where nobody wants a line."""
        return self._counting[upstream]


class _Client:
    """A client, from its accept to the join; with an access log, to its end."""

    __slots__ = ("_began", "_failures", "_handle", "_relay", "_transport", "_tried", "_upstream")

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._handle: Any = None  # of the connection on its way
        self._upstream: Upstream | None = None
        self._tried: tuple[Upstream, ...] = ()
        self._failures: tuple[str, ...] = ()

    def connection_made(self, transport: Any) -> None:
        transport.pause_reading()  # nobody is there yet to take what it sends
        self._transport = transport
        self._began = self._relay.upstreams.clock()
        self._relay._look_at(transport.server)
        self._try_next()

    def connection_lost(self, exc: BaseException | None) -> None:
        relay, transport, upstream = self._relay, self._transport, self._upstream
        self._transport = None  # else each would keep the other
        if self._handle is not None and upstream is not None:
            self._handle.cancel()
            self._handle = None
            relay.upstreams.left(upstream)
            upstream = None
        elif upstream is not None:
            upstream.active -= 1
        if relay.log is not None:
            name = upstream.name if upstream is not None else ""
            seconds = relay.upstreams.clock() - self._began
            refused = bool(self._failures) and upstream is None
            relay.log(log.record_of(transport, name, seconds, exc, refused, self._failures))

    def _try_next(self) -> None:
        relay, tried = self._relay, self._tried
        upstream = relay.upstreams.take(tried) if len(tried) < _TRIES else None
        self._upstream = upstream
        if upstream is None:
            self._transport.abort()
            return
        began = relay.upstreams.clock() if tried else self._began
        if upstream.is_self:
            self.tries_another(upstream, began, OSError(errno.ELOOP, "it is this server itself"))
            return
        self._handle = self._transport.server.connect(
            upstream.address, _Candidate(self, upstream, began), relay.connect_timeout
        )

    # -- for the candidate

    def joins(self, transport: Any, upstream: Upstream) -> None:
        """Join it with its upstream, of which ``transport`` is the connection."""
        self._handle = None
        relay, side = self._relay, self._transport
        relay.upstreams.connected(upstream)
        if side.is_closing():
            transport.abort()
            return
        try:
            side.relay(transport)
        except ValueError:  # one of them is lost, and is about to hear so: the other goes with it
            transport.abort()
            side.abort()
            return
        if relay.log is None:
            side.set_protocol(relay._hears_of(upstream))
            self._transport = None  # else each would keep the other

    def tries_another(self, upstream: Upstream, began: float, exc: BaseException) -> None:
        """Hear that there is no connection to this upstream."""
        self._handle = self._upstream = None
        relay = self._relay
        if isinstance(exc, ConnectionAbortedError):  # the server is ending
            relay.upstreams.left(upstream)
            self._transport.abort()
            return
        why = getattr(exc, "strerror", None) or str(exc)
        if getattr(exc, "errno", None) in _OUR_FAULT:
            relay.upstreams.left(upstream)
        else:
            relay.upstreams.failed(upstream, began, why)
        self._tried += (upstream,)
        self._failures += (why,)
        self._try_next()


class _Candidate:
    """An upstream's connection on its way: its service, and its protocol until the join."""

    __slots__ = ("_began", "_client", "_upstream")

    def __init__(self, client: _Client, upstream: Upstream, began: float) -> None:
        self._client = client
        self._upstream = upstream
        self._began = began

    def __call__(self) -> _Candidate:
        return self

    def connection_made(self, transport: Any) -> None:
        transport.set_protocol(None)  # of its end the client's side tells
        self._client.joins(transport, self._upstream)

    def connection_lost(self, exc: BaseException) -> None:
        self._client.tries_another(self._upstream, self._began, exc)


class _Counting:
    """The protocol of all joined clients of an upstream: it hears of their ends, and counts."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def connection_lost(self, exc: BaseException | None) -> None:
        self._upstream.active -= 1


def _parsed(upstreams: tuple[str | int | Address, ...]) -> list[Address]:
    found: dict[Address, None] = {}
    for each in upstreams:
        where = addresses.parse(each)
        if not where.path and not where.port:
            raise AddressError(f"upstream {where}: nobody can be connected to at port 0")
        if where in found:
            raise AddressError(f"upstream {where} is given twice")
        found[where] = None
    return list(found)


def _checked(name: str, limit: str, value: Any) -> Any:
    """Return a value that ``Limits`` takes, or refuse it by the name it has here."""
    try:
        Limits(**{limit: value})
    except ValueError as exc:
        raise ValueError(f"Relay({name}={value!r}): {exc}") from None
    return value
