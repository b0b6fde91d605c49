"""Host loops, in which an engine is a guest: asyncio's and uvloop's, trio's; anyio runs on either.

None of them is imported before it runs.
"""

from __future__ import annotations

import sys
from typing import Protocol

from muxcore.abc import Engine


class Hosting(Protocol):
    """A host loop that an engine's end is awaited in."""

    async def serve(self, engine: Engine) -> None:
        """Let the engine be a guest here until it has ended.

        A cancel asks it to stop, which lets its clients finish; a second one, where the host has
        such, aborts. However it ends, nothing of it is left when this returns or raises.

        Raises:
            BaseException: what ended the engine, where that was an error; else the cancel.
        """


def current() -> Hosting:
    """Return the host loop that runs this.

    Raises:
        RuntimeError: none does.
    """
    trio = sys.modules.get("trio")
    if trio is not None:  # before asyncio: it may run as a guest there itself
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            from muxcore.hosts.trio_host import TrioHost

            return TrioHost()
    from muxcore.hosts.asyncio_host import AsyncioHost

    return AsyncioHost()
