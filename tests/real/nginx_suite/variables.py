"""What a text with variables is, as far as that is known before anybody comes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .conf import Directive, named

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Unknown(Exception):
    """It depends on a variable of which nothing is known; the argument is its name."""


class Variables:
    """Those of a ``stream`` block.

    Args:
        stream: it; its maps are variables.
        known: others, with their values.
    """

    def __init__(self, stream: tuple[Directive, ...], known: Mapping[str, str]) -> None:
        self._maps = {each.args[1].lstrip("$"): each for each in named(stream, "map")}
        self._known = known

    def value(self, text: str) -> str:
        """Return what a text is.

        Raises:
            Unknown: that is not known.
        """
        return _VARIABLE.sub(lambda found: self._of(found[1] or found[2]), text)

    def map_of(self, text: str) -> Directive | None:
        """Return the map of which a text is the variable, and nothing else; None: it is none."""
        found = _VARIABLE.fullmatch(text)
        return None if found is None else self._maps.get(found[1] or found[2])

    def _of(self, name: str) -> str:
        if name in self._known:
            return self._known[name]
        if name not in self._maps:
            raise Unknown(name)
        its = self._maps[name]
        source = self.value(its.args[0])
        rules = {each.name: each.args[0] for each in its.block or () if each.args}
        for pattern, value in rules.items():
            if pattern.startswith("~"):
                flags = re.IGNORECASE if pattern.startswith("~*") else 0
                if found := re.search(pattern.lstrip("~*"), source, flags):
                    numbered = {str(n + 1): its for n, its in enumerate(found.groups())}
                    inner = Variables((), {**self._known, **numbered, **found.groupdict()})
                    return inner.value(value)
            elif pattern.lower() == source.lower() and pattern != "default":
                return self.value(value)
        return self.value(rules.get("default", ""))
