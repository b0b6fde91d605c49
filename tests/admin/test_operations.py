"""What all processes are asked and told, by processes that only seem so."""

from __future__ import annotations

import asyncio
import time
import types
from typing import Any, ClassVar, cast

import pytest

from muxcore.admin import metrics, operations
from muxcore.admin.peers import Unanswered
from muxcore.testing.peer import DEADLINE


async def _told(it: operations.Operations, upstreams: list[dict[str, Any]]) -> list[str]:
    """Return what a process is told that comes while another one has these upstreams."""
    asked: list[str] = []

    class Process:
        pools: ClassVar[list[Any]] = []
        counts: ClassVar[list[Any]] = []

        async def begin(self) -> bool:
            return True

        async def ask(self, operation: str, **given: Any) -> Any:
            asked.append(operation)
            return [{"pool": "web", "upstreams": upstreams}] if operation == "pools" else None

    it.peers = [cast(Any, Process())]
    await it.add(cast(Any, Process()))
    return [each for each in asked if each != "pools"]


def test_what_a_file_has_undone_is_not_done_again_in_a_process_that_comes_later() -> None:
    a = {"upstream": "a:1", "weight": 5, "state": "out"}
    b = {"upstream": "b:1", "weight": 1, "state": "up"}

    async def tries(*upstreams: dict[str, Any]) -> list[str]:
        it = operations.Operations(None)
        it.peers = [cast(Any, types.SimpleNamespace(name="1", ask=_does))]
        await it.change("add", {"pool": "web", "upstream": "b:1"})
        await it.change("weight", {"pool": "", "upstream": "a:1", "weight": 5})
        await it.change("drain", {"pool": "web", "upstream": "a:1"})
        await it.change("ready", {"pool": "web", "upstream": "b:1"})
        await it.change("remove", {"pool": "web", "upstream": "c:1"})
        return await _told(it, list(upstreams))

    every = ["add", "weight", "drain", "ready", "remove"]
    assert asyncio.run(tries(a, b)) == every
    assert asyncio.run(tries(a)) == ["weight", "drain", "remove"]
    assert asyncio.run(tries({**a, "weight": 1}, b)) == ["add", "drain", "ready", "remove"]
    assert asyncio.run(tries({**a, "state": "up"}, b)) == ["add", "weight", "ready", "remove"]
    assert asyncio.run(tries(a, {**b, "state": "out"})) == ["add", "weight", "drain", "remove"]
    assert asyncio.run(tries(a, b, {**b, "upstream": "c:1"})) == every[:-1]


def test_one_that_hangs_costs_its_time_once() -> None:
    async def asks_both() -> list[str]:
        both, asked = asyncio.Event(), []

        async def ask(operation: str, **given: Any) -> Any:
            asked.append(operation)
            if len(asked) == 2:
                both.set()
            await both.wait()
            raise Unanswered("it hangs")

        server: Any = types.SimpleNamespace(
            stats=lambda: types.SimpleNamespace(as_dict=dict),
            **dict.fromkeys(("engine", "addresses", "ready", "workers"), ()),
            _engine=types.SimpleNamespace(draining=False),
        )
        it = operations.Operations(server)
        it.peers = [cast(Any, types.SimpleNamespace(name="1", ask=ask, pools=[], counts=[]))]
        await asyncio.wait_for(it.status_and_pools(), DEADLINE)
        return asked

    assert sorted(asyncio.run(asks_both())) == ["pools", "status"]


def test_who_is_needed_is_not_waited_for_where_another_process_has_said_enough() -> None:
    async def unready(*asks: Any, ready: bool = True) -> list[str]:
        it = operations.Operations(types.SimpleNamespace(ready=ready))
        it.peers = [cast(Any, types.SimpleNamespace(ask=ask)) for ask in asks]
        return await asyncio.wait_for(it.unready(["db", "web"]), DEADLINE)

    def has(*names: str) -> Any:
        async def ask(operation: str) -> list[str]:
            assert operation == "serving"
            return [*names]

        return ask

    async def hangs(operation: str) -> None:
        await asyncio.Event().wait()

    async def ends(operation: str) -> None:
        raise Unanswered("it has ended")

    no_web = "pool web: no upstream may have clients"
    assert asyncio.run(unready(hangs, has("db"), has("web", "other"))) == []
    assert asyncio.run(unready(has("db"), has("db"))) == [no_web]
    assert asyncio.run(unready(has("db"), ends)) == [no_web, "it has ended"]
    assert asyncio.run(unready(has("db", "web"), ready=False)) == ["it takes nobody new"]
    assert len(asyncio.run(unready())) == 2  # nobody serves yet


async def _does(operation: str, **given: Any) -> None:
    """A process that does what it is told."""


def test_neither_uptime_nor_start_follow_the_clock_that_people_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start that moves looks like a restart, and an uptime below zero like nonsense."""
    began = metrics.start_time()
    stats = types.SimpleNamespace(as_dict=dict)
    server: Any = types.SimpleNamespace(
        stats=lambda: stats,
        engine="none",
        addresses=(),
        ready=True,
        workers=0,
        _engine=types.SimpleNamespace(draining=False),
    )
    it = operations.Operations(server)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert asyncio.run(it.status())["uptime"] >= 0
    assert metrics.start_time() == began
