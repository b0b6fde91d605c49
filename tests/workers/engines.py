"""On which engines workers are tested."""

from __future__ import annotations

from typing import Any

import muxcore
from tests.usual import usual


def each() -> list[Any]:
    """Return the engines as parameters: the parent is the same code for all of them."""
    return usual([info.name for info in muxcore.engines() if info.available])
