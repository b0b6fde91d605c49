"""All that a router goes by, for whoever comes now: a change makes another plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from muxcore.pool import Pool
from muxcore.services.relay.relay import Relay
from muxcore.services.router.first import Decide
from muxcore.services.router.route import Route

if TYPE_CHECKING:
    from muxcore.services.router.heard import Heard


class Plan:
    """Routes, in order, and what becomes of those whom none of them takes.

    Args:
        routes: they.
        default: their pool; None: they are refused.
        decide: asked about them instead.
        pools: names that it may return.
        access_log: of the relays.
        before: the plan until now: its relays go on.

    Attributes:
        relays: one for each pool that is named.
        needs_bytes: nobody's route is known before a byte.
        decide, routes: the same.
        rest: what ``Router.change`` was told beside the routes.

    Raises:
        TypeError, ValueError: see ``Router``.
    """

    def __init__(
        self,
        routes: tuple[Route, ...],
        default: Pool | None,
        decide: Decide | None,
        pools: Mapping[str, Pool],
        access_log: Any,
        before: Mapping[Pool, Relay],
    ) -> None:
        for route in routes:
            if not isinstance(route, Route):
                raise TypeError(f"Router({route!r}): give Routes, such as Route(pool, tls_name=…)")
        named = {"default": default} if default is not None else {}
        for name, pool in (*named.items(), *pools.items()):
            if not isinstance(pool, Pool):
                raise TypeError(f"Router: {name} needs a Pool, not {pool!r}")
        if decide is not None and not callable(decide):
            raise TypeError(f"Router(decide={decide!r}): decide must be callable")
        if decide is not None and default is not None:
            raise ValueError(
                "Router(default=…, decide=…): decide has the last word about those whom no route "
                "takes: let it return that pool"
            )
        if decide is None and pools:
            raise ValueError("Router(pools=…): they are what decide may name, and there is none")
        self.decide = decide
        self.default = default
        self.routes = routes
        self.rest: dict[str, Any] = {"default": default, "decide": decide, "pools": pools}
        self._pools = dict(pools)
        self._access_log = access_log
        every = [*(route.pool for route in routes), *named.values(), *pools.values()]
        self.relays = {
            pool: before.get(pool) or Relay(pool, access_log=access_log) for pool in every
        }
        self._named: dict[str, list[int]] = {}  # routes by TLS name: there may be thousands
        self._others: list[int] = []  # routes without any
        for number, route in enumerate(routes):
            for name in route.tls_name:
                self._named.setdefault(name, []).append(number)
            if not route.tls_name:
                self._others.append(number)
        self._first_named = min((numbers[0] for numbers in self._named.values()), default=math.inf)
        from muxcore.services.router.heard import Heard  # who routes nobody needs no parser

        self.needs_bytes = not self.route_of(Heard())[0]

    def shared(self, share: Callable[[Pool], Pool]) -> tuple[tuple[Route, ...], dict[str, Any]]:
        """Return routes and rest of a plan that has other pools in the place of these.

        Args:
            share: returns the pool that stands for one of these.
        """
        rest = dict(self.rest)
        if self.default is not None:
            rest["default"] = share(self.default)
        rest["pools"] = {name: share(pool) for name, pool in rest["pools"].items()}
        return tuple(route._to(share(route.pool)) for route in self.routes), rest

    def route_of(self, heard: Heard) -> tuple[bool, Route | None]:
        """Return whether it is known by now which route a client takes, and which: the first.

        Args:
            heard: what the client has said.
        """
        numbers, is_all = self._candidates(heard)
        for number in numbers:
            answer = self.routes[number]._matches(heard)
            if answer is None:
                return False, None
            if answer:
                return True, self.routes[number]
        return is_all, None

    def _candidates(self, heard: Heard) -> tuple[list[int], bool]:
        """Return the numbers of routes that a client may take, and whether these are all."""
        names = heard.names() if self._named else ()
        if names is None:
            return [number for number in self._others if number < self._first_named], False
        found = [number for name in names for number in self._named.get(name, ())]
        return (sorted((*self._others, *found)) if found else self._others), True

    def pool_of(self, decided: Any) -> Pool | None:
        """Return the pool that a decision means.

        Raises:
            LookupError: there is none of this name.
            TypeError: it is none of what it may be.
        """
        if isinstance(decided, str):
            if decided not in self._pools:
                there_are = ", ".join(self._pools) or "none"
                raise LookupError(f"decide returned {decided!r}; the pools are: {there_are}")
            return self._pools[decided]
        if decided is None or isinstance(decided, Pool):
            return decided
        raise TypeError(f"decide returned {decided!r}: a Pool, its name, or None is wanted")

    def relay_to(self, pool: Pool) -> Relay:
        """Return the relay of a pool; one that was not named has one for this client."""
        return self.relays.get(pool) or Relay(pool, access_log=self._access_log)
