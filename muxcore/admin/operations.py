"""What can be asked of a server, as one answer of all its processes.

A process that does not answer in time is named in ``missing``, and its numbers are those that it
said last: no counter goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from muxcore import address
from muxcore._version import __version__
from muxcore.abc import logger
from muxcore.admin.peers import LIMIT, Peer, Refused, Unanswered

_EVERY = 10.0  # s: 1,000 upstreams take a worker some 10 ms, a thousandth of its time

COUNTED = ("total", "failed", "unanswered")
SUMMED = ("active", *COUNTED)

# What an operation is about: of two about the same the last one counts.
_ABOUT = {"weight": "weight", "drain": "out", "ready": "out", "add": "in", "remove": "in"}


class Operations:
    """The answers for one server.

    Args:
        server: it, or the parent of workers.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.peers: list[Peer] = []
        self._coming: set[Peer] = set()
        self._began = time.monotonic()
        # what was done last about an upstream: whether it is in the pool, or out, and its weight
        self._changes: dict[tuple[str, str, str], tuple[str, dict[str, Any]]] = {}
        self._changing = asyncio.Lock()  # one at a time, and none while a process is added
        # counted by workers that have ended: of upstreams, and by services
        self._gone: dict[tuple[str, str], dict[str, int]] = {}
        self._refused: dict[str, dict[str, int]] = {}  # likewise, of pools
        self._counted: Counter[tuple[str, str]] = Counter()

    # -- who is asked

    async def add(self, peer: Peer) -> None:
        """Ask one more process, which is changed as the others were."""
        self._coming.add(peer)  # asyncio keeps neither the task that waits for it, nor its stream
        try:
            if await peer.begin():
                async with self._changing:
                    await self._forget_undone()
                    for operation, given in self._changes.values():
                        with contextlib.suppress(Refused, Unanswered):
                            await peer.ask(operation, **given)
                    self.peers.append(peer)
        finally:
            self._coming.discard(peer)

    def gone(self, peer: Peer) -> None:
        """A process has ended: keep what it had counted."""
        if peer not in self.peers:
            return
        self.peers.remove(peer)
        for service, reason, number in peer.counts:
            self._counted[service, reason] += number
        for pool in peer.pools:
            _add(self._refused.setdefault(pool["pool"], {}), pool["refused"])
            for upstream in pool["upstreams"]:
                key = (pool["pool"], upstream["upstream"])
                kept = self._gone.setdefault(key, {})
                _add(kept, {name: upstream[name] for name in COUNTED})

    async def keep_asking(self) -> None:
        """Ask for what all have counted, now and then: a process that ends takes the rest along."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.status_and_pools()
            except Exception as exc:
                logger.error("admin: what has been counted is not known", exc_info=exc)

    async def _forget_undone(self) -> None:
        """Forget changes that a file has undone which was read again: the others tell."""
        answers, _ = await self._all("pools")
        for _, pools in answers[:1]:
            self._changes = {
                about: (operation, given)
                for about, (operation, given) in self._changes.items()
                if _holds(operation, given, pools)
            }

    async def _all(
        self, operation: str, **given: Any
    ) -> tuple[list[tuple[Peer, Any]], list[BaseException]]:
        """Ask all at once; return the answers, and why there are no more."""
        peers = list(self.peers)
        answers = await asyncio.gather(
            *(each.ask(operation, **given) for each in peers), return_exceptions=True
        )
        failed = [each for each in answers if isinstance(each, BaseException)]
        for each in failed:
            if not isinstance(each, Refused | Unanswered):
                raise each
        good = [pair for pair in zip(peers, answers, strict=True) if pair[1] not in failed]
        return good, failed

    # -- what is seen

    async def live(self) -> list[str]:
        """Return which loops do not answer, in words."""
        _, failed = await self._all("ping")
        why = [str(each) for each in failed]
        if self.server.workers:
            loop, answered = asyncio.get_running_loop(), asyncio.Event()
            self.server._engine.call_from_signal(lambda: loop.call_soon_threadsafe(answered.set))
            try:
                await asyncio.wait_for(answered.wait(), LIMIT)
            except TimeoutError:
                why.append(f"the parent (pid {os.getpid()}) has not answered within {LIMIT:g} s")
        return why

    async def unready(self, needs: Iterable[str]) -> list[str]:
        """Return why nobody is to be sent here, in words.

        Args:
            needs: pools; of each a client must be able to have an upstream, in some process.
        """
        if not self.server.ready:
            return ["it takes nobody new"]
        left, silent = set(needs), list[str]()
        asked = [asyncio.ensure_future(_serving(each)) for each in self.peers] if left else []
        for answer in asyncio.as_completed(asked):  # one that hangs need not be waited for
            serving, why = await answer
            left -= {*serving}
            silent += [why] if why else []
            if not left:
                break
        for each in asked:
            each.cancel()
        return [
            *(f"pool {name}: no upstream may have clients" for name in sorted(left)),
            *(silent if left else ()),
        ]

    async def lag(self) -> float:
        """Return the lag of the loop that has most, in seconds; one that hangs has a second."""
        answers, failed = await self._all("lag")
        return max([value for _, value in answers] + [LIMIT for _ in failed], default=LIMIT)

    async def status(self) -> dict[str, Any]:
        """Return what a server is doing, with a row for each process and each pool."""
        server = self.server
        answers, failed = await self._all("status")
        stats = server.stats()
        for peer, value in answers:
            peer.counts = value["counts"]
        counts = self._counted.copy()
        for peer in self.peers:
            for service, reason, number in peer.counts:
                counts[service, reason] += number
        return {
            "version": __version__,
            "pid": os.getpid(),
            "engine": server.engine,
            "listening": list(server.addresses),
            "uptime": round(time.monotonic() - self._began, 3),
            "ready": server.ready,
            "draining": server._engine.draining,
            "workers": server.workers,
            "lag": max((value["lag"] for _, value in answers), default=None),
            **stats.as_dict(),
            "counts": [[*key, number] for key, number in sorted(counts.items())],
            "processes": [{"worker": peer.name, **value} for peer, value in answers],
            "up": {each.name: 0 for each in self.peers} | {peer.name: 1 for peer, _ in answers},
            "missing": [str(each) for each in failed],
        }

    async def pools(self) -> dict[str, Any]:
        """Return the pools, with the sums of what all processes say of each upstream."""
        answers, failed = await self._all("pools")
        for peer, value in answers:
            peer.pools = value
        merged: dict[str, dict[str, Any]] = {}
        for peer in self.peers:
            for pool in peer.pools:
                _add_pool(merged, pool)
            await asyncio.sleep(0)
        pools = []
        for pool in merged.values():
            upstreams = list(pool["upstreams"].values())
            _add(pool["refused"], self._refused.get(pool["pool"], {}))
            for each in upstreams:
                _add(each, self._gone.get((pool["pool"], each["upstream"]), {}))
            pools.append({**pool, "upstreams": upstreams})
        return {"pools": pools, "missing": [str(each) for each in failed]}

    async def status_and_pools(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return both, asked for at once: one that hangs costs its time once."""
        status, pools = await asyncio.gather(self.status(), self.pools())
        return status, pools["pools"]

    async def connections(
        self, wanted: dict[str, Any], missing: list[str]
    ) -> AsyncIterator[list[str]]:
        """Yield the connections that are wanted, in pages: nobody has to keep all of them.

        Args:
            wanted: which.
            missing: it gets who did not answer.

        Yields:
            Some, each as JSON.
        """
        for peer in list(self.peers):
            try:
                async for page in _paged(peer, "connections", wanted):
                    yield page["rows"]
            except Unanswered as exc:
                missing.append(str(exc))

    # -- what is changed

    async def kill(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """End connections; return how many, and who did not answer."""
        killed, missing = 0, []
        for peer in list(self.peers):
            try:
                async for page in _paged(peer, "kill", wanted):
                    killed += page["killed"]
            except Unanswered as exc:
                missing.append(str(exc))
        return {"killed": killed, "missing": missing}

    async def change(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """Change something in all processes.

        Raises:
            Refused: they will not; or some have, and which have not is said.
            Unanswered: the same, for one that hangs.
        """
        async with self._changing:
            answers, failed = await self._all(operation, **given)
            _raise_refusal(failed, bool(answers))
            if not answers:
                raise Unanswered("nobody serves")
            about = _ABOUT[operation], given["pool"], given["upstream"]
            self._changes.pop(about, None)
            self._changes[about] = operation, given
        return {"done": [peer.name for peer, _ in answers]}


async def _serving(peer: Peer) -> tuple[list[str], str]:
    """Return of which pools a process can give an upstream; or none, and why it does not say."""
    try:
        return await peer.ask("serving"), ""
    except (Refused, Unanswered) as exc:
        return [], str(exc)


async def _paged(
    peer: Peer, operation: str, wanted: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Yield the pages of one process's answer.

    Raises:
        Unanswered: one does not come.
    """
    after: int | None = 0
    while after is not None:
        page = await peer.ask(operation, after=after, **wanted)
        yield page
        after = page["after"]
        await asyncio.sleep(0.001)  # the loop of the server may be in this process


def _raise_refusal(failed: list[BaseException], others_have: bool) -> None:
    """Raise why it is not done everywhere.

    Raises:
        Refused, Unanswered: the first reason, with all the others; one that all give, once.
    """
    if failed:
        same = {each.why if isinstance(each, Refused) else "" for each in failed}
        why = same.pop() if len(same) == 1 and not others_have else ""
        why = why or "; ".join(map(str, failed))
        others = "; the others have done it" if others_have else ""
        raise type(failed[0])(f"{why}{others}")


def _holds(operation: str, given: dict[str, Any], pools: list[dict[str, Any]]) -> bool:
    """Return whether a change is still to be seen in the pools of a process that has made it."""
    name = str(address.parse(given["upstream"]))
    found = [
        each
        for pool in pools
        for each in pool["upstreams"]
        if given["pool"] in ("", pool["pool"]) and each["upstream"] == name
    ]
    if operation == "remove":
        return not found
    if operation == "weight":
        return any(each["weight"] == given["weight"] for each in found)
    if operation == "add":
        return bool(found)
    return any((each["state"] == "out") == (operation == "drain") for each in found)


def _add(sums: dict[str, int], numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        sums[name] = sums.get(name, 0) + number


def _add_pool(merged: dict[str, dict[str, Any]], pool: dict[str, Any]) -> None:
    """Add what one process says of a pool to what others have said."""
    whole = merged.setdefault(pool["pool"], {**pool, "queue": 0, "refused": {}, "upstreams": {}})
    whole["queue"] += pool["queue"]
    _add(whole["refused"], pool["refused"])
    for each in pool["upstreams"]:
        known = whole["upstreams"].get(each["upstream"])
        if known is None:
            whole["upstreams"][each["upstream"]] = {**each, "states": {each["state"]: 1}}
            continue
        for name in SUMMED:
            known[name] += each[name]
        known["states"][each["state"]] = known["states"].get(each["state"], 0) + 1
        known["state"] = max(known["states"], key=known["states"].__getitem__)
        known["why"] = known["why"] or each["why"]
        known["rests_for"] = max(known["rests_for"], each["rests_for"])
        known["changed_ago"] = min(known["changed_ago"], each["changed_ago"])
