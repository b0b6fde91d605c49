"""What the peers that run in a host loop share: which loop it is, the last argument says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


def host() -> str:
    """Return the name of the host loop."""
    return "uvloop" if sys.argv[-1] == "uvloop" else "asyncio"


def run(main: Coroutine[Any, Any, object]) -> None:
    """Run the program in the host loop."""
    if host() == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)
