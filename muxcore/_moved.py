"""Modules under the names they had before 0.1, which authors of engines imported; gone with 0.2.

They stand in ``sys.modules`` from the first import of muxcore on: an import of one of them finds it
there, and so does not put a module in the place of a public name (``muxcore.engine``).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

MOVED = {
    "muxcore.calls": "muxcore.parts.calls",
    "muxcore.connecting": "muxcore.parts.connecting",
    "muxcore.dispatch": "muxcore.parts.dispatch",
    "muxcore.engine": "muxcore.abc",
    "muxcore.listening": "muxcore.parts.listener",
    "muxcore.loop_engine": "muxcore.parts.loop",
    "muxcore.timers": "muxcore.parts.timers",
    "muxcore.transport": "muxcore.parts.transport",
    "muxcore.transport_socket": "muxcore.parts.transport_socket",
}


class _Moved(ModuleType):
    """What is asked of it is the new module's, with a warning."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's questions
            raise AttributeError(name)
        where = MOVED[self.__name__]
        text = f"{self.__name__}.{name} is {where}.{name} now; the old name goes with muxcore 0.2"
        found = getattr(importlib.import_module(where), name)
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return found


def install() -> None:
    """Make the old names importable."""
    for old in MOVED:
        sys.modules.setdefault(old, _Moved(old))
