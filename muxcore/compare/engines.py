"""Which engines a comparison is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muxcore import registry
from muxcore.compare.servers import Subject, echo_subject


def chosen(
    names: Sequence[str],
    *,
    adapters: bool = False,
    report: Callable[[str], object] | None = None,
) -> list[str]:
    """Return the engines meant: none means all that can run here, the plainest model first.

    Args:
        names: engines, models, or the selectors ``pure`` and ``native``, which mean all of theirs.
        adapters: whether no name includes the adapters, which are else chosen by their names only.
        report: told in one line of each engine that is left out because it cannot run here.

    Raises:
        UnknownEngine: a name that is none of these.
        EngineUnavailable: an engine that was named cannot run here.
    """
    infos = sorted(registry.engines(), key=_order)
    found: list[str] = []
    for name in names or ("",):
        matching = [info for info in infos if _means(name, info, adapters)]
        if not matching or (len(matching) == 1 and name):
            registry.engine(name)  # raises with the reason where it is unknown or cannot run
        for info in matching:
            if info.available:
                found += [info.name] if info.name not in found else []
            elif report:
                report(f"{info.name} is left out: {info.reason}")
    return found


def echo_subjects(names: Sequence[str]) -> list[Subject]:
    """Return each engine's echo, by verb and by callback side by side."""
    return [echo_subject(name, handler) for name in names for handler in ("verb", "callback")]


def _means(name: str, info: registry.EngineInfo, adapters: bool) -> bool:
    if name == info.name:
        return True
    if info.priority <= 0 and not (adapters and not name):
        return False
    if name in ("pure", "native"):
        return info.name.startswith(f"{name}-")
    return name in ("", "auto", info.model)


def _order(info: registry.EngineInfo) -> tuple[int, int, str]:
    models = ("process", "select", "epoll")
    place = models.index(info.model) if info.model in models else len(models)
    is_adapter = info.priority == 0
    return is_adapter, place, info.name.replace("pure", "0")
