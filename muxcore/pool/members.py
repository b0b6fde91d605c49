"""Who is in a pool, and who comes and goes while it is used."""

from __future__ import annotations

import abc
from collections.abc import Callable

from muxcore.address import Address
from muxcore.errors import AddressError
from muxcore.pool.upstream import Upstream, UpstreamStats
from muxcore.pool.waiting import Waiting


class Members(Waiting):
    """The upstreams of a pool.

    Attributes:
        upstreams: they, in order.
        on_added: told of each that comes, once the checks run.
    """

    clock: Callable[[], float]

    def __init__(self) -> None:
        super().__init__()
        self.upstreams: tuple[Upstream, ...] = ()
        self.on_added: Callable[[Upstream], object] | None = None

    def add(self, upstream: str | int | Address | Upstream) -> Upstream:
        """Add an upstream; with a slow start it gets more and more clients from now on.

        Raises:
            AddressError: its address is malformed, has port 0, or is here already.
            ValueError: it is of another pool.
        """
        added = self._admit(upstream)
        added.came_up = self.clock()
        self.changed()
        if self.on_added is not None:
            self.on_added(added)
        return added

    def _admit(self, upstream: str | int | Address | Upstream) -> Upstream:
        added = upstream if isinstance(upstream, Upstream) else Upstream(upstream)
        if any(added.address == each.address for each in self.upstreams):
            raise AddressError(f"upstream {added.name} is given twice")
        if added.freed is not None:
            raise ValueError(f"upstream {added.name} is of another pool: make one for each")
        added.freed = self._freed
        self.upstreams += (added,)
        return added

    def remove(self, name: str) -> Upstream:
        """Take an upstream away; its clients stay with it, and nobody new comes.

        Args:
            name: its address, as text.

        Raises:
            LookupError: there is none of this name.
            ValueError: it is the last one.
        """
        gone = self.upstream(name)
        if len(self.upstreams) == 1:
            raise ValueError(f"{name} is the last upstream: a pool has at least one")
        self.upstreams = tuple(each for each in self.upstreams if each is not gone)
        self.changed()
        return gone

    def upstream(self, name: str) -> Upstream:
        """Return the upstream of an address.

        Raises:
            LookupError: there is none of this name.
        """
        for each in self.upstreams:
            if each.name == name:
                return each
        raise LookupError(f"no upstream {name!r}: there are {', '.join(map(str, self.stats()))}")

    def stats(self) -> dict[str, UpstreamStats]:
        """Return a snapshot of each, by its address; from any thread."""
        now = self.clock()
        return {u.name: u.stats(now) for u in self.upstreams}

    @abc.abstractmethod
    def changed(self) -> None:
        """Hear that somebody has set what an upstream may take: ``weight``, ``out``, and so on."""
