"""Who is compared: engines, and beside them what others would write.

An engine stands twice, served by the verb and by the callback. An adapter serves callbacks on
somebody else's loop, so it stands as a callback alone, beside the plain program on that loop: what
lies between the two is the adapter's cost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from muxcore import registry
from muxcore.compare import peers
from muxcore.compare.servers import Subject, app_subject, echo_subject
from muxcore.errors import EngineUnavailable

Report = Callable[[str], object]


def chosen(names: Sequence[str], folder: Path, report: Report | None = None) -> list[Subject]:
    """Return the echo servers meant: none means all that can run here, the plainest model first.

    Args:
        names: engines, models, ``pure`` and ``native``, which mean all of theirs, or peers.
        folder: where peers that are compiled are put.
        report: told in one line of each that is left out because it cannot run here.

    Raises:
        UnknownEngine: a name that is none of these.
        EngineUnavailable: what was named cannot run here.
    """
    engines = [each for each in names if each != "floor"]
    found = [] if names and not engines else _engines(engines, report, adapters=not names)
    subjects = [
        echo_subject(info.name, handler)
        for info in found
        if info.priority > 0
        for handler in ("verb", "callback")
    ]
    subjects += [
        replace(echo_subject(info.name, "callback"), name=f"{info.name} adapter", handler="adapter")
        for info in found
        if info.priority <= 0
    ]
    return subjects + _peers(names, folder, report)


def apps(names: Sequence[str], service: str, report: Report | None = None) -> list[Subject]:
    """Return a user's own service on each engine meant; as :func:`chosen`, without peers."""
    return [app_subject(info.name, service) for info in _engines(names, report, adapters=False)]


def _engines(
    names: Sequence[str], report: Report | None, *, adapters: bool
) -> list[registry.EngineInfo]:
    infos = sorted(registry.engines(), key=_order)
    found: list[registry.EngineInfo] = []
    for name in names or ("",):
        matching = [info for info in infos if _means(name, info, adapters)]
        if not matching or (len(matching) == 1 and name):
            registry.engine(name)  # raises with the reason where it is unknown or cannot run
        for info in matching:
            if info.available:
                found += [info] if info not in found else []
            elif report and (name or info.priority > 0):
                report(f"{info.name} is left out: {info.reason}")
    return found


def _peers(names: Sequence[str], folder: Path, report: Report | None) -> list[Subject]:
    found = []
    for name in peers.NAMES:
        if names and name not in names:
            continue
        why = peers.missing(name)
        if why and names:
            raise EngineUnavailable(name, why)
        try:
            if not why:
                found.append(peers.subject(name, folder))
        except (OSError, subprocess.CalledProcessError) as exc:
            why = f"it could not be compiled: {exc}"
        if why and report:
            report(f"{peers.NAMES[name]} is left out: {why}")
    plain = next((each for each in found if each.name == peers.ASYNCIO), None)
    return [*found, replace(plain, name=peers.FRESH, fresh=True)] if plain else found


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
