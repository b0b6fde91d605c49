"""Engines by name: which there are, which can run here, why one cannot, and which one to take.

An entry is a module path, imported when the engine is chosen or listed. Third parties add entries
through the entry-point group ``muxcore.engines``; one that is broken, in whatever way, is listed
with its error, and breaks nothing else. What a plug-in says of itself is looked at when it is
loaded, not believed.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muxcore.abc import Engine
from muxcore.errors import EngineUnavailable, UnknownEngine

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "muxcore.engines"
VARIABLE = "MUXCORE_ENGINE"
SELECTORS = ("auto", "pure", "native")

logger = logging.getLogger("muxcore")

# The order is the preference: what auto, a selector or a model's name takes first.
_BUILT_IN = {
    "native-epoll": "muxcore.native.native_engine:NativeEpollEngine",
    "pure-epoll": "muxcore.pure.epoll_engine:EpollEngine",
    "pure-select": "muxcore.pure.select_engine:SelectEngine",
    "pure-process": "muxcore.pure.process_engine:ProcessEngine",
}
_ADAPTERS = {  # chosen by their names only: they are the yardstick, not the product
    "asyncio": "muxcore.adapters.asyncio_engine:AsyncioEngine",
    "uvloop": "muxcore.adapters.asyncio_engine:UvloopEngine",
}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is known of an engine without running it.

    Attributes:
        name: by which it is chosen.
        model: "process", "select" or "epoll"; "" where the engine could not be loaded.
        available: whether it can run here.
        reason: why it cannot, and what to do; "" where it can.
        capabilities: what it can do; see ``muxcore.abc.CAPABILITIES``.
        priority: the highest available is what ``auto`` takes; 0 is chosen by name only.
    """

    name: str
    model: str
    available: bool
    reason: str
    capabilities: frozenset[str]
    priority: int


def engines() -> list[EngineInfo]:
    """Return every engine, the preferred first; loads all of them, and never raises."""
    return sorted(_infos(), key=lambda info: -info.priority)


def engine(name: str | None = None) -> type[Engine]:
    """Resolve a name to an engine.

    Args:
        name: an engine's name, a model's name (its best available engine), or a selector: "auto",
            "pure", "native". None means ``MUXCORE_ENGINE``, or "auto" where that is not set.

    Raises:
        UnknownEngine: there is none of this name.
        EngineUnavailable: it cannot run here. Only "auto" falls back, and logs one line.
    """
    asked_by = ""
    if name is None:
        name = os.environ.get(VARIABLE) or "auto"
        asked_by = f" (from {VARIABLE})" if name != "auto" else ""
    found = _named(name)
    if found is not None:
        return _available(name, found)
    candidates = list(_candidates(name))
    if not candidates:
        known = [*SELECTORS, *sorted(_models()), *_BUILT_IN, *_ADAPTERS, *_plug_ins()]
        raise UnknownEngine(
            f"no engine is named {name!r}{asked_by}: take one of {', '.join(known)}"
        )
    skipped: list[EngineUnavailable] = []
    for candidate, where in candidates:
        try:
            chosen = _available(candidate, where)
        except EngineUnavailable as exc:
            skipped.append(exc)
            continue
        if name == "auto" and skipped:
            logger.warning("%s: taking %s", skipped[0], candidate)
        return chosen
    raise skipped[0]


def _named(name: str) -> str | EntryPoint | None:
    """Return where the engine of exactly this name is to be loaded from."""
    if name in _reserved():
        return None
    return _BUILT_IN.get(name) or _ADAPTERS.get(name) or _plug_ins().get(name)


def _candidates(name: str) -> Iterator[tuple[str, str | EntryPoint]]:
    """Yield what a selector or a model's name may mean, the preferred first."""
    if name in ("pure", "native"):
        yield from ((n, path) for n, path in _BUILT_IN.items() if n.startswith(f"{name}-"))
        return
    plug_ins: list[tuple[int, str, str, EntryPoint]] = []
    for plug_in, where in _plug_ins().items():
        try:
            loaded = _load(plug_in, where)
        except EngineUnavailable:
            continue  # listed with its error; breaks nothing else
        if loaded.priority > 0:
            plug_ins.append((loaded.priority, plug_in, loaded.model, where))
    ranked: list[tuple[int, str, str, str | EntryPoint]] = [
        (_priority(n), n, n.partition("-")[2], path) for n, path in _BUILT_IN.items()
    ]
    ranked += plug_ins
    ranked.sort(key=lambda entry: -entry[0])
    yield from ((n, where) for _, n, model, where in ranked if name in ("auto", model))


def _models() -> set[str]:
    return {name.partition("-")[2] for name in _BUILT_IN}


def _reserved() -> set[str]:
    """Return the names that mean a choice among engines, and so can be no engine's."""
    return {*SELECTORS, *_models()}


def _priority(name: str) -> int:
    """Return a built-in engine's priority: 40, 30, …, so that a plug-in fits in between."""
    names = list(_BUILT_IN)
    return 10 * (len(names) - names.index(name)) if name in _BUILT_IN else 0


def _plug_ins() -> dict[str, EntryPoint]:
    """Return the third parties' entries; none can take a name of ours."""
    # a sixth of what importing muxcore costs, and not wanted where an engine of ours is named
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    return {n: e for n, e in found.items() if n not in _BUILT_IN and n not in _ADAPTERS}


def _load(name: str, where: str | EntryPoint) -> type[Engine]:
    """Import an engine's class and look at it; whatever goes wrong there becomes the reason."""
    plug_in = not isinstance(where, str)
    advice = "report it to the plug-in's authors" if plug_in else ""
    if plug_in and name in _reserved():
        raise EngineUnavailable(name, "its name means a choice among engines", advice)
    try:
        if isinstance(where, str):
            module, _, attribute = where.partition(":")
            loaded = getattr(importlib.import_module(module), attribute)
        else:
            loaded = where.load()
        fault = _fault(name, loaded)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit, too: a module must not end every program
        raise EngineUnavailable(name, f"{type(exc).__name__}: {exc}", advice) from exc
    if fault:
        raise EngineUnavailable(name, fault, advice)
    return loaded  # type: ignore[no-any-return]


def _fault(name: str, loaded: Any) -> str:
    """Return what is wrong with what should be an engine's class, or ""."""
    if not (isinstance(loaded, type) and issubclass(loaded, Engine)):
        return f"{loaded!r} is no subclass of muxcore.abc.Engine"
    missing = sorted(getattr(loaded, "__abstractmethods__", ()))
    if missing:
        return f"it is abstract: it does not define {', '.join(missing)}"
    own, model = getattr(loaded, "name", None), getattr(loaded, "model", None)
    if own != name:
        return f"its class is named {own!r}, and its entry point {name!r}"
    if not isinstance(model, str) or not model or model in SELECTORS:
        return f"its model must be the name of one, such as 'epoll', not {model!r}"
    if isinstance(loaded.priority, bool) or not isinstance(loaded.priority, int):
        return f"its priority must be a whole number, not {loaded.priority!r}"
    claims = getattr(loaded, "capabilities", None)
    if not isinstance(claims, frozenset) or not all(isinstance(each, str) for each in claims):
        return f"its capabilities must be a frozenset of names, not {claims!r}"
    return ""


def _available(name: str, where: str | EntryPoint) -> type[Engine]:
    """Load an engine that can run here, or say why it cannot."""
    loaded = _load(name, where)
    try:
        problem = loaded.unavailable()
        if problem is not None and not _is_two_texts(problem):
            raise TypeError(f"unavailable() returned {problem!r}, not a reason and an advice")
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise EngineUnavailable(name, f"{type(exc).__name__}: {exc}") from exc
    if problem is not None:
        raise EngineUnavailable(name, *problem)
    return loaded


def _is_two_texts(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _infos() -> Iterator[EngineInfo]:
    everything: dict[str, str | EntryPoint] = {**_BUILT_IN, **_ADAPTERS, **_plug_ins()}
    for name, where in everything.items():
        loaded, reason = None, ""
        try:
            loaded = _load(name, where)
            _available(name, where)
        except EngineUnavailable as exc:
            reason = f"{exc.reason}; {exc.advice}" if exc.advice else exc.reason
        yield EngineInfo(
            name=name,
            model=getattr(loaded, "model", ""),
            available=not reason,
            reason=reason,
            capabilities=getattr(loaded, "capabilities", frozenset()),
            priority=_priority(name) or getattr(loaded, "priority", 0),
        )
