"""Links out of docs/ lead to the repository: the site has no copy of a file that is read there."""

from __future__ import annotations

import re
from typing import Any

_WHERE = "https://github.com/muxcore/muxcore/blob/main/"


def _lead(app: Any, page: str, source: list[str]) -> None:
    up = r"\.\./" * (1 + page.count("/"))
    source[0] = re.sub(rf"\]\({up}(?!\.\./)([^)\s]+)\)", rf"]({_WHERE}\1)", source[0])


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _lead)
    return {"parallel_read_safe": True}
