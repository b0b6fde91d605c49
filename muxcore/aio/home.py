"""Which engine a task is at home with: what it opens is that engine's.

A handler, and every task that it starts, is at home with the server that called it, so that what it
connects to can be joined with its client. Other tasks share an engine of the loop's own: it begins
with the first that asks for it, and ends with the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import Context, ContextVar
from types import AsyncGeneratorType
from typing import NamedTuple

from muxcore import registry
from muxcore.hosts.asyncio_host import AsyncioHost
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.parts.loop import LoopEngine
from muxcore.parts.turning import TurningLoop


class _Home(NamedTuple):
    loop: AbstractEventLoop
    engine: LoopEngine
    life: AsyncGenerator[None, None] | None = None  # of one that ends with the loop


_at: ContextVar[_Home] = ContextVar("muxcore.aio.home")

_OF_THE_LOOP = "_muxcore_home"  # an attribute of the loop: it goes when the loop does

_MOST_MOVERS = 64  # each has buffers of half a MiB; more than cores is of no use


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
    engine = new_guest()
    set_movers(engine, None)

    def ended(exc: BaseException | None) -> None:
        if exc is not None:
            text = "engine %s has ended by an error, and the loop's connections with it"
            dispatch.logger.critical(text, engine.name, exc_info=exc)

    # in an empty context: which task was the first says nothing to the others
    return _Home(loop, engine, stay(engine, Context().run(AsyncioHost), ended))


def new_guest(limits: Limits | None = None) -> TurningLoop:
    """Return an engine that can be a guest: ``MUXCORE_ENGINE`` says which, or "auto" does.

    Raises:
        EngineUnavailable, CapabilityMissing: it cannot be, or be a guest.
    """
    engine = registry.engine(None)(limits)
    try:
        engine.need("guest")
        assert isinstance(engine, TurningLoop)
    except BaseException:
        engine.close()
        raise
    return engine


def set_movers(engine: LoopEngine, movers: int | None) -> None:
    """Say how many threads an engine's joined pairs go to; None: one, where it can have any.

    Raises:
        ValueError: so many there cannot be.
        CapabilityMissing: the engine cannot have any.
    """
    if movers is None:
        movers = 1 if "native_verbs" in engine.capabilities else 0
    if not 0 <= movers <= _MOST_MOVERS:
        raise ValueError(f"movers must be 0 to {_MOST_MOVERS}, not {movers!r}")
    if movers:
        engine.need("native_verbs")
        engine.movers = movers


def stay(
    engine: LoopEngine, host: AsyncioHost, ended: Callable[[BaseException | None], object]
) -> AsyncGenerator[None, None]:
    """Let an engine be a guest in the loop that runs, until it has ended, or the loop does.

    Args:
        engine: it.
        host: the loop.
        ended: called once; see ``Engine.be_guest``.

    Returns:
        What is to be kept as long as the engine may run.
    """
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    life = _life(engine, over)
    assert isinstance(life, AsyncGeneratorType)

    def end(exc: BaseException | None) -> None:
        if not over.done():
            over.set_result(None)
        if not life.ag_running:  # else it is the loop that ends it
            _step(life.aclose())
        ended(exc)

    engine.be_guest(host, end)
    _step(life.asend(None))  # to its first yield: the loop knows of it from there
    return life


def _step(awaited: Awaitable[None]) -> None:
    """Take the one step that an awaitable has, which does not wait."""
    with contextlib.suppress(StopIteration):
        awaited.__await__().send(None)


async def _life(engine: LoopEngine, over: asyncio.Future[None]) -> AsyncGenerator[None, None]:
    """End an engine with its loop, which closes its asynchronous generators in the end."""
    try:
        yield
    finally:
        engine.abort()
        await over
