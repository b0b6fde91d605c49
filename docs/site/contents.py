"""What the side bar shows, in order. It is added to the first page, which has it in words."""

from __future__ import annotations

from typing import Any

_PARTS = {
    "Guide": [
        "models",
        "engines",
        "verbs",
        "rates",
        "aio",
        "from-asyncio",
        "from-a-proxy",
        "dropin",
        "relay",
        "routes",
        "config",
        "measuring",
        "load",
        "operating",
        "admin",
        "workers",
        "restarting",
        "deploying",
        "packaging",
    ],
    "Reference": [
        "reference/commands",
        "reference/protocol",
        "reference/muxcore",
        "reference/aio",
        "reference/admin",
        "reference/parsers",
        "reference/engine",
        "reference/testing",
        "reference/load",
        "stability",
    ],
    "Inside": ["reading"],
}


def _add(app: Any, page: str, source: list[str]) -> None:
    if page == "index":
        for caption, pages in _PARTS.items():
            listed = "\n".join(page for page in pages if page in app.env.found_docs)
            source[0] += f"\n:::{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n:::\n"


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _add)
    return {"parallel_read_safe": True}
