"""On which engines workers are tested."""

from __future__ import annotations

from typing import Any

import muxcore
from tests.usual import usual


def each(*needs: str) -> list[Any]:
    """Return the engines that can do this, as parameters: the parent's code is one for all."""
    able = (i for i in muxcore.engines() if i.available and i.capabilities.issuperset(needs))
    return usual([info.name for info in able])
