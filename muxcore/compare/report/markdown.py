"""What people paste into an issue or a message: the verdict, one table, the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muxcore.compare import peers
from muxcore.compare.report.picture import engines
from muxcore.compare.report.verdict import headline, microseconds, trust


def markdown(found: Mapping[str, Any]) -> str:
    """Return the comparison in short, as GitHub and others show it."""
    first, where = found["cells"][0], found["environment"]
    lines = [
        headline(found),
        "",
        f"| {first['name']} | CPU a message, by the verb | by the callback |",
        "|---|---:|---:|",
    ]
    for row in engines(found, first):
        by = {dot.kind: microseconds(dot.value) for dot in row.dots}
        if row.label == peers.FLOOR:  # C, as a verb is
            by = {"verb": by["reference"]}
        verb = by.pop("verb", "")
        lines.append(f"| {row.label} | {verb} | {''.join(by.values())} |")
    machine = f"{where['cpu']}, Linux {where['kernel']}, Python {where['python'].split()[0]}"
    made = f"{machine}, muxcore {where['muxcore']}: `{found['command']}`"
    return "\n".join([*lines, "", trust(found).why, "", made])
