"""serve(): a server in a line."""

from __future__ import annotations

import os
from collections.abc import Callable

from muxcore._demands import Services, Where
from muxcore.limits import Limits
from muxcore.server import Server


def serve(
    service: Services,
    *where: Where,
    engine: str | None = None,
    limits: Limits | None = None,
    trigger: str = "level",
    reuse_port: bool = False,
    allow_threads: bool = False,
    workers: int | str | None = None,
    worker_setup: Callable[[], object] | None = None,
    balance: str = "kernel",
    on_ready: Callable[[Server], object] | None = None,
    pidfile: str | os.PathLike[str] | None = None,
) -> int:
    """Serve until Ctrl-C or SIGTERM; arguments as in ``Server`` and ``run``, result as in that."""
    return Server(
        service,
        *where,
        engine=engine,
        limits=limits,
        trigger=trigger,
        reuse_port=reuse_port,
        allow_threads=allow_threads,
        workers=workers,
        worker_setup=worker_setup,
        balance=balance,
    ).run(on_ready, pidfile=pidfile)
