"""Which engine a task is at home with: what it opens is that engine's.

A handler, and every task that it starts, is at home with the server that called it, so that what it
connects to can be joined with its client. Other tasks share an engine of the loop's own: it begins
with the first that asks for it, and ends with the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from contextvars import Context, ContextVar
from typing import NamedTuple

from muxcore import registry
from muxcore.hosts.asyncio_host import AsyncioHost
from muxcore.parts import dispatch
from muxcore.parts.loop import LoopEngine


class _Home(NamedTuple):
    loop: AbstractEventLoop
    engine: LoopEngine
    life: AsyncGenerator[None, None] | None = None  # of one that ends with the loop


_at: ContextVar[_Home] = ContextVar("muxcore.aio.home")

_OF_THE_LOOP = "_muxcore_home"  # an attribute of the loop: it goes when the loop does


def enter(engine: LoopEngine) -> None:
    """Let this task, and what it starts from now on, be at home with an engine."""
    _at.set(_Home(asyncio.get_running_loop(), engine))


def here() -> LoopEngine:
    """Return the engine that this task is at home with.

    Raises:
        RuntimeError: no loop runs.
        EngineUnavailable, CapabilityMissing: the loop's own engine cannot be, or be a guest.
    """
    loop = asyncio.get_running_loop()
    home = _at.get(None)
    if home is not None and home.loop is loop and not home.engine.ending:
        return home.engine
    home = getattr(loop, _OF_THE_LOOP, None)
    if home is None or home.engine.ending:
        home = _begun(loop)
        setattr(loop, _OF_THE_LOOP, home)
    return home.engine


def _begun(loop: AbstractEventLoop) -> _Home:
    """Let an engine of its own be a guest in the loop, until the loop ends."""
    engine = registry.engine(None)()
    engine.need("guest")
    assert isinstance(engine, LoopEngine)
    engine.movers = 1 if "native_verbs" in engine.capabilities else 0
    over: asyncio.Future[None] = loop.create_future()

    def ended(exc: BaseException | None) -> None:
        if exc is not None:
            text = "engine %s has ended by an error, and the loop's connections with it"
            dispatch.logger.critical(text, engine.name, exc_info=exc)
        if not over.done():
            over.set_result(None)

    # in an empty context: which task was the first says nothing to the others
    engine.be_guest(Context().run(AsyncioHost), ended)
    life = _life(engine, over)
    with contextlib.suppress(StopIteration):  # at its first yield: the loop knows of it from there
        life.asend(None).send(None)
    return _Home(loop, engine, life)


async def _life(engine: LoopEngine, over: asyncio.Future[None]) -> AsyncGenerator[None, None]:
    """End an engine with its loop, which closes its asynchronous generators in the end."""
    try:
        yield
    finally:
        engine.abort()
        await over
