"""Who answers in a process that serves: a thread, which asks the loop in slices.

A request is a line, ``[number, until, operation, arguments]``, and so is its answer: ``[number,
true, value]``, ``[number, false, why]``, or with null for false where the loop hangs. One that
comes after its time is dropped: who asked has been told that nobody answered. The first line of all
is empty: from then on it answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from heapq import merge
from ipaddress import ip_address, ip_network
from operator import itemgetter
from time import monotonic, sleep
from typing import Any, TypeVar

from muxcore import address
from muxcore.admin import finding
from muxcore.admin.lag import Lag
from muxcore.pool import Pool, Upstream
from muxcore.pool.upstream import MOST_WEIGHT, checked_count

T = TypeVar("T")

SLICE = 0.0005  # s that the loop is asked for at a time; and that this thread takes before it rests
PATIENCE = 0.8  # s for the loop's answer; who asks waits a little longer
PAGE = 250  # connections in one answer: 60 KB
LOOKING = 0.25  # s that one answer may look for those that are wanted
_EVERY = 1.0  # s between two looks for relays that are new
_OWNER = re.compile(r"^[A-Z]\w*\(\w+=.*?\): ", re.DOTALL)  # "Upstream(weight=0): weight must …"
ROW = "id client listener pool upstream seconds bytes_up bytes_down".split()


def begin(server: Any, sock: socket.socket) -> None:
    """Answer for a server until the other end is closed; called in its engine's thread."""
    answering = Answering(server, sock)
    threading.Thread(target=answering.run, name="muxcore admin answers", daemon=True).start()


class Answering:
    """The answers of one process.

    Args:
        server: which is asked; it serves.
        sock: where the requests come from.
    """

    def __init__(self, server: Any, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._counters: dict[int, tuple[str, Mapping[str, int]]] = {}  # by id, as they were last
        self._counted: Counter[tuple[str, str]] = Counter()  # by services that are gone
        self._lag = Lag(server._engine)
        self._lag.begin()
        self._look()

    def _look(self) -> None:
        """Follow all relays; some may be new, where a service has changed. In the loop's thread."""
        for name, pool in finding.pools(self._server).items():
            pool.name = name  # the access log calls it so, too
        for relay in finding.relays(self._server):
            relay.follow()
        self._server._engine.alarm(_EVERY, self._look)

    def run(self) -> None:
        """Say that it is here, and answer one after another."""
        with contextlib.suppress(OSError), self._sock, self._sock.makefile("rb") as requests:
            self._sock.sendall(b"\n")
            for line in requests:
                number, until, name, given = json.loads(line)
                if monotonic() > until:
                    continue
                try:
                    answer = [number, True, getattr(self, f"do_{name}")(**given)]
                except (LookupError, ValueError, TypeError, RuntimeError) as exc:
                    answer = [number, False, _OWNER.sub("", str(exc))]
                except NotYet:
                    answer = [number, None, f"its loop has not answered within {PATIENCE:g} s"]
                self._sock.sendall(json.dumps(answer).encode() + b"\n")

    # -- what is seen

    def do_ping(self) -> None:
        """Answer once the loop does."""
        self._on_loop(lambda: None)

    def do_lag(self) -> float:
        return self._lag.seconds()

    def do_status(self) -> dict[str, Any]:
        server = self._server
        stats = server.stats()
        return {
            "pid": os.getpid(),
            "ready": server.ready,
            "draining": server._engine.draining,
            "connections": stats.open,
            "accepted": stats.total,
            "lag": self._lag.seconds(),
            "counts": [[*key, number] for key, number in self._counts().items()],
        }

    def _counts(self) -> Counter[tuple[str, str]]:
        """Return what services have counted, by kind and reason.

        Several may count together. What one has counted stays when a change of the configuration
        takes it away: no counter goes back.
        """
        there = {
            id(each.counts): (getattr(each, "_name", "") or type(each).__name__, each.counts)
            for each in finding.services(self._server)
            if isinstance(getattr(each, "counts", None), Mapping)
        }
        for name in self._counters.keys() - there.keys():
            _add(self._counted, *self._counters[name])
        self._counters = there
        counts = self._counted.copy()
        for kind, numbers in there.values():
            _add(counts, kind, numbers)
        return counts

    def do_serving(self) -> list[str]:
        """Return the pools of which a client may have an upstream: one that rests is tried, too."""
        pools = finding.pools(self._server).items()
        return [name for name, pool in pools if any(each.may_serve for each in pool.upstreams)]

    def do_pools(self) -> list[dict[str, Any]]:
        return [
            {
                "pool": name,
                "policy": pool.policy,
                "queue": pool.waiting,
                "refused": dict(pool.refusals.counts),
                "upstreams": list(_rests(_upstreams(pool))),
            }
            for name, pool in finding.pools(self._server).items()
        ]

    def do_connections(self, after: int, **wanted: Any) -> dict[str, Any]:
        """Return a page of those that are wanted, each as JSON: text costs least to pass on.

        Args:
            after: the number of the last one of the page before.
            wanted: see :func:`_filter`.
        """
        page, after_this = self._page(after, wanted)
        rows = [json.dumps(_row(each)) for each in _rests(page)]
        return {"rows": rows, "after": after_this}

    def _page(self, after: int, wanted: dict[str, Any]) -> tuple[list[Any], int | None]:
        """Return records of clients that are wanted, and after whom to go on; None: at nobody."""
        fits = _filter(**wanted)
        ids = wanted.get("ids")
        clients = (
            relay.clients.get(name)
            for number, relay, name in merge(
                *(_later(relay, after, ids) for relay in finding.relays(self._server)),
                key=itemgetter(0),
            )
        )
        page: list[Any] = []
        until = monotonic() + LOOKING
        for record in self._sliced(clients, _record):
            if record is not None and fits(record):
                page.append(record)
                if len(page) == PAGE:
                    return page, _number(record.id)
            if record is not None and monotonic() > until:
                return page, _number(record.id)
        return page, None

    # -- what is changed

    def do_kill(self, after: int, **wanted: Any) -> dict[str, Any]:
        """End a page of those that are wanted; return how many there were."""
        page, after_this = self._page(after, wanted)
        relays = finding.relays(self._server)
        clients = (relay.clients.get(each.id) for relay in relays for each in page)
        killed = sum(self._sliced(clients, lambda client: client is not None and client.kill()))
        return {"killed": killed, "after": after_this}

    def do_weight(self, pool: str, upstream: str, weight: int) -> None:
        checked = checked_count("Upstream", "weight", weight, MOST_WEIGHT)
        self._change(pool, upstream, weight=checked)

    def do_drain(self, pool: str, upstream: str) -> None:
        self._change(pool, upstream, out=True)

    def do_ready(self, pool: str, upstream: str) -> None:
        self._change(pool, upstream, out=False, withdrawn="")

    def do_add(self, pool: str, upstream: str, weight: int = 1, backup: bool = False) -> None:
        into = self._pool(pool)
        added = Upstream(upstream, weight=weight, backup=backup)
        self._on_loop(lambda: into.add(added))

    def do_remove(self, pool: str, upstream: str) -> None:
        of = self._pool(pool, upstream)
        self._on_loop(lambda: of.remove(upstream))

    def _change(self, pool: str, upstream: str, **values: Any) -> None:
        of = self._pool(pool, upstream)

        def change() -> None:
            one = of.upstream(upstream)
            served = one.may_serve
            for name, value in values.items():
                setattr(one, name, value)
            of.changed()
            if one.may_serve and not served:
                of.returned(one)

        self._on_loop(change)

    def _pool(self, name: str, upstream: str = "") -> Pool:
        """Return a pool by its name; "" is the only one, or the only one with this upstream."""
        pools = finding.pools(self._server)
        if not name:
            having = {
                each: pool
                for each, pool in pools.items()
                if len(pools) == 1 or any(its.name == upstream for its in pool.upstreams)
            }
            if len(having) == 1:
                return next(iter(having.values()))
            pools = having or pools
        if name not in pools:
            if upstream and not name and not having:
                raise LookupError(
                    f"no pool has an upstream {upstream!r}: `muxcore admin SOCKET pools` shows them"
                )
            there = ", ".join(pools) or "none"
            what = f"there is no pool {name!r}" if name else "say which pool, by --pool NAME"
            raise LookupError(f"{what}: there are {there}")
        return pools[name]

    # -- the loop

    def _on_loop(self, call: Callable[[], T]) -> T:
        """Return what a call returns in the loop's thread.

        Raises:
            NotYet: it was not called in time, and will not be.
            RuntimeError: the server has ended.
        """
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as exc:
                    future.set_exception(exc)

        self._server.call_soon_threadsafe(run)
        try:
            return future.result(PATIENCE)
        except NotYet:
            if future.cancel():
                raise
            return future.result(PATIENCE)

    def _sliced(self, items: Iterable[Any], call: Callable[[Any], T]) -> Iterator[T]:
        """Yield what a call returns for each item, in the loop's thread, a slice at a time."""
        left = iter(items)
        more = True

        def some() -> list[T]:
            nonlocal more
            until, done = monotonic() + SLICE, []
            for item in left:
                done.append(call(item))
                if monotonic() > until:
                    return done
            more = False
            return done

        while more:
            yield from _rests(self._on_loop(some))


def _add(counts: Counter[tuple[str, str]], kind: str, numbers: Mapping[str, int]) -> None:
    for reason, number in dict(numbers).items():  # at once: the loop changes it
        counts[kind, reason] += number


def _rests(values: Iterable[T]) -> Iterator[T]:
    """Yield values, and leave the interpreter to the loop now and then."""
    until = monotonic() + SLICE
    for value in values:
        yield value
        if monotonic() > until:
            sleep(SLICE)  # 0 would not do: who has just let go takes it again first
            until = monotonic() + SLICE


def _upstreams(pool: Pool) -> Iterator[dict[str, Any]]:
    now = pool.clock()
    for each in pool.upstreams:
        stats = each.stats(now)
        yield {"upstream": each.name} | {name: getattr(stats, name) for name in stats.__slots__}


def _later(relay: Any, after: int, ids: list[str] | None) -> Iterator[tuple[int, Any, str]]:
    """Yield number, relay and id of the clients of one relay that came later than another."""
    there = list(relay.clients or ())  # at once: the loop changes it; in the order they came
    if ids is not None:
        there = sorted({each for each in ids if each in relay.clients}, key=_number)
    for at in range(bisect(there, after, key=_number), len(there)):
        yield _number(there[at]), relay, there[at]


def _record(client: Any) -> Any:
    """Return what is known of a client that may have gone meanwhile; in the loop's thread."""
    return None if client is None else client.record()


def _row(record: Any) -> dict[str, Any]:
    return {"state": record.event} | {name: getattr(record, name) for name in ROW}


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _filter(
    pool: str | None = None,
    upstream: str | None = None,
    client: str | None = None,
    older: float | None = None,
    ids: list[str] | None = None,
) -> Callable[[Any], bool]:
    """Return what says whether a record is wanted.

    Args:
        pool, upstream: its pool and upstream.
        client: a network that the client is of, or "unix".
        older: seconds since it came, at least.
        ids: one of these; ``_wanted`` sees to it.

    Raises:
        ValueError: this is no network.
    """
    network = None if client in (None, "unix") else ip_network(client)

    def fits(record: Any) -> bool:
        if pool is not None and record.pool != pool:
            return False
        if upstream is not None and record.upstream != upstream:
            return False
        if older is not None and record.seconds < older:
            return False
        if client == "unix":
            return bool(record.client.startswith("unix"))
        if network is not None:
            if record.client.startswith("unix"):
                return False
            return ip_address(address.parse(record.client).host.partition("%")[0]) in network
        return True

    return fits
