"""``allow`` and ``deny``, of which the first that matches counts, as a list of each.

Here ``deny`` wins. So an ``allow`` that takes somebody out of a later ``deny`` cannot be said, but
for the last one, ``deny all``: that is what having a list of those who may come means.
"""

from __future__ import annotations

import ipaddress
from typing import Any

_ALL = ["0.0.0.0/0", "::/0", "unix"]


class Rules:
    """Those of a server, one after another."""

    def __init__(self) -> None:
        self._allow: list[str] = []
        self._deny: list[str] = []
        self._is_over = self._is_closed = False

    def add(self, name: str, who: str) -> bool:
        """Hear of one more; False: it cannot be said."""
        if self._is_over:
            return True  # nobody comes so far
        if who == "all":
            self._is_over = True
            self._is_closed = name == "deny"
            return True
        networks = self._allow if name == "allow" else self._deny
        networks.append(who.rstrip(":") if who == "unix:" else who)
        return name == "allow" or not any(_meet(who, each) for each in self._allow)

    def table(self) -> dict[str, Any]:
        """Return the keys of a table of limits."""
        if self._is_closed and not self._allow:
            return {"deny": _ALL}
        table = {"allow": self._allow if self._is_closed else [], "deny": self._deny}
        return {key: its for key, its in table.items() if its}


def _meet(one: str, other: str) -> bool:
    if "unix" in one or "unix" in other:
        return one.rstrip(":") == other.rstrip(":")
    first, second = (ipaddress.ip_network(each, strict=False) for each in (one, other))
    return first.version == second.version and first.overlaps(second)
