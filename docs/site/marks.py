"""What a module calls ``_EXPERIMENTAL`` is marked in the reference, and listed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_MODULES = ("muxcore", "muxcore.aio", "muxcore.testing", "muxcore.load")
_MARK = "**Experimental**: it may change in any version. See :doc:`/stability`."


class Experimental(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        names = [
            f"{{any}}`{module}.{name}`"
            for module in _MODULES
            for name in sorted(getattr(importlib.import_module(module), "_EXPERIMENTAL", ()))
        ]
        return self.parse_text_to_nodes("\n".join(f"- {name}" for name in names))


def _mark(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    module, _, short = name.rpartition(".")
    if what != "module" and short in getattr(sys.modules.get(module), "_EXPERIMENTAL", ()):
        lines[:0] = [_MARK, ""]


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("experimental", Experimental)
    app.connect("autodoc-process-docstring", _mark)
    return {"parallel_read_safe": True}
