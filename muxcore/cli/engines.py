"""``muxcore engines``: what is here, what is not and why, and what each can do."""

from __future__ import annotations

import argparse
import json
from typing import Any

from muxcore import registry
from muxcore.abc import CAPABILITIES

_EXAMPLES = """\
examples:
  muxcore engines
  muxcore engines --json | python3 -m json.tool
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "engines",
        help="list the engines, and why one cannot run here",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    infos = registry.engines()
    if options.json:
        print(json.dumps([_as_json(info) for info in infos], indent=2))
        return 0
    width = max(len(info.name) for info in infos)
    for info in infos:
        state = "available" if info.available else "not available"
        print(f"{info.name:<{width}}  {info.model:<8} {state}")
        if info.reason:
            print(f"{'':<{width}}  why: {info.reason}")
        if info.capabilities:
            print(f"{'':<{width}}  can: {', '.join(sorted(info.capabilities))}")
    print("\nWhat these mean:")
    width = max(map(len, CAPABILITIES))
    for name, meaning in CAPABILITIES.items():
        print(f"  {name:<{width}}  {meaning}")
    return 0


def _as_json(info: registry.EngineInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "model": info.model,
        "available": info.available,
        "reason": info.reason,
        "capabilities": sorted(info.capabilities),
        "priority": info.priority,
    }
