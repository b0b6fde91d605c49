"""An earlier comparison beside this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxcore.compare import record
from muxcore.errors import MuxcoreError


class BaselineError(MuxcoreError, ValueError):
    """A baseline that cannot be read, or is no comparison."""


def read(path: Path) -> dict[str, Any]:
    """Return what ``muxcore compare --json`` wrote.

    Raises:
        BaselineError: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BaselineError(f"baseline {path}: {exc}; write one with --json FILE") from exc
    if not isinstance(found, dict) or found.get("schema") != record.SCHEMA or "cells" not in found:
        raise BaselineError(f"baseline {path} was not written by this `muxcore compare --json`")
    return found


def against(
    found: Mapping[str, Any], earlier: Mapping[str, Any], fail_under: float | None = None
) -> tuple[list[str], bool]:
    """Compare figures with those of an earlier run.

    The two runs were not side by side, so what changed in the machine is in the ratio too; the
    lines say so. CPU per message is compared, as earlier / now, so that below 1 is worse; it
    depends less on the client than the rate does.

    Args:
        found: this run.
        earlier: what :func:`read` returned.
        fail_under: the least ratio that is accepted.

    Returns:
        Lines for a person, and whether any ratio fell under the bound.
    """
    lines = [
        f"against the baseline of {earlier['started']} (another run: the machine may differ too):"
    ]
    if earlier["environment"]["kernel"] != found["environment"]["kernel"]:
        lines.append("  the kernels differ: these ratios say little about muxcore")
    before = {each["name"]: each["figures"] for each in earlier["cells"]}
    fell = False
    for cell in found["cells"]:
        for name, figures in cell["figures"].items():
            old = before.get(cell["name"], {}).get(name)
            if old is None:
                continue
            ratio = old["cpu_us_per_message"] / figures["cpu_us_per_message"]
            bad = fail_under is not None and ratio < fail_under
            fell = fell or bad
            mark = f"  UNDER {fail_under:g}" if bad else ""
            lines.append(f"  {cell['name']}: {name}: x{ratio:.3f} of its messages per CPU{mark}")
    if len(lines) == 1:
        lines.append("  nothing in common: no cell and subject is in both")
    return lines, fell
