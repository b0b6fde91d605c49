"""What somebody may have meant who has misspelt a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str:
    """Return ": did you mean ...?", or nothing where nothing is spelt alike."""
    found = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {found[0]}?" if found else ""
