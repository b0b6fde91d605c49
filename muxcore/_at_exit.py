"""Background servers are stopped when the interpreter ends."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import Protocol

from muxcore.parts import dispatch


class Stops(Protocol):
    """A server, as far as its end is concerned."""

    def stop(self) -> bool: ...

    def _is_copy(self) -> bool: ...


def stop(server: Stops) -> Callable[[], None]:
    """Have a server stopped at exit, unless it is gone by then; return the hook, to unregister."""
    reference = weakref.ref(server)

    def hook() -> None:
        still_there = reference()
        if still_there is not None and not still_there._is_copy():
            try:
                still_there.stop()
            except BaseException as exc:
                dispatch.logger.error("a server did not stop at exit", exc_info=exc)

    atexit.register(hook)
    return hook
