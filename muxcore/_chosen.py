"""The engine of a server: the one that was chosen, or workers that each have one like it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from muxcore import _demands, registry
from muxcore.abc import Engine
from muxcore.limits import Limits
from muxcore.parts import dispatch
from muxcore.protocol import Service


def engine_for(
    make: Callable[..., Any],
    services: Sequence[Service],
    name: str | None,
    limits: Limits,
    trigger: str,
    allow_threads: bool,
    *,
    workers: int | str | None,
    setup: Callable[[], object] | None,
    balance: str,
) -> Engine:
    """Return a new engine.

    Args:
        make: makes the server of a worker; it can be imported.
        services: what it serves; each once.
        name: as of ``registry.engine``.
        limits: the services' own are laid over them.
        setup: called in each worker first.
        balance: "kernel" or "exact".

    Raises:
        CapabilityMissing, ServiceError, ValueError: see ``Server``.
    """
    chosen = registry.engine(name)
    _demands.check_requirements(services, chosen)
    limits = _demands.limits_with(services, limits)
    if workers is None:
        if setup is not None or balance != "kernel":
            what = "worker_setup" if setup is not None else f"balance={balance!r}"
            raise ValueError(f"{what} is for workers: say how many, as in workers=2")
        return chosen(limits, trigger=trigger, allow_threads=allow_threads)
    from muxcore.workers.engine import number_of, workers_on  # only who wants them pays for them
    from muxcore.workers.task import Task

    count = number_of(workers)
    if count > 1:
        shares = [dispatch.share_of(each, 1, count) for each in services]
        _demands.refuse_shared_state(shares, count)
    options = {
        "engine": chosen.name,
        "limits": _demands.Complete(**dataclasses.asdict(limits)),
        "trigger": trigger,
        "allow_threads": allow_threads,
    }
    task = Task(make, services, options, setup)
    return workers_on(chosen)(
        count, task, limits, balance=balance, trigger=trigger, allow_threads=allow_threads
    )
