"""Which engine can do what: a table made from the engines themselves."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from muxcore import engines
from muxcore.abc import CAPABILITIES


class Capabilities(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        known = engines()
        rows = [["", *(f"`{info.name}`" for info in known)], ["---"] * (1 + len(known))]
        for name in CAPABILITIES:
            has = ("yes" if name in info.capabilities else "" for info in known)
            rows.append([f"`{name}`", *has])
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", *(f"- `{name}`: {meaning}" for name, meaning in CAPABILITIES.items())]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("capabilities", Capabilities)
    return {"parallel_read_safe": True}
