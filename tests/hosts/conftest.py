"""Every engine that can be a guest, in every host loop that is here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import pytest

import muxcore
from muxcore.testing.hosted import HOSTS, is_here
from muxcore.testing.peer import DEADLINE

T = TypeVar("T")

GUESTS = [i.name for i in muxcore.engines() if i.available and "guest" in i.capabilities]


@pytest.fixture(params=GUESTS)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[host for host in HOSTS if is_here(host)])
def in_host(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run an async function in a host loop, for as long as the deadline allows."""

    def run(main: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with anyio.fail_after(DEADLINE):
                return await main()

        backend = "trio" if request.param == "trio" else "asyncio"
        options: dict[str, Any] = {"use_uvloop": True} if request.param == "uvloop" else {}
        return anyio.run(bounded, backend=backend, backend_options=options)

    return run
