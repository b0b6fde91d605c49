"""The C house stands: a unit calls only units below its own floor, and nothing goes in a circle.

What a unit calls is what its object file leaves open, and another's defines. Upward there are
pointers: the backend's table for the loop, the loop's for the backend, the verbs'.
"""

from __future__ import annotations

import graphlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"

# From the ground up; units on one floor do not know of each other.
_FLOORS = [
    ["syscalls"],
    ["balance", "sendq", "slots"],
    ["batch", "rate", "todo", "wheel"],
    ["epoll_ready"],
    ["backend_epoll"],
    ["connection"],
    ["verb_discard", "verb_echo", "verb_python", "verb_relay"],
    ["verbs"],
    ["moved"],
    ["api", "connect", "gather", "listener"],
    ["loop"],
    ["mover"],
]
# The load generator shares nothing with the loop but the calls that tests can make fail.
_LOAD_FLOORS = [
    ["syscalls"],
    ["load_hist", "load_pace", "load_reply"],
    ["load_setup", "load_conn"],
    ["load_events"],
    ["load"],
]

_UNITS = {path.stem: path for path in sorted(CSRC.rglob("*.c")) if not path.name.startswith("_")}


def _calls(folder: Path) -> dict[str, set[str]]:
    """Return which units each unit calls, or takes data from."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no C compiler ({compiler[0]!r} is not installed)")
    asked = [*compiler, "-print-prog-name=nm"]
    nm = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    include = [f"-I{CSRC}", f"-I{CSRC / 'load'}"]

    def symbols(unit: str) -> tuple[set[str], set[str]]:
        target = folder / f"{unit}.o"
        command = [
            *compiler,
            "-std=c11",
            "-O1",
            *include,
            "-c",
            str(_UNITS[unit]),
            "-o",
            str(target),
        ]
        subprocess.run(command, check=True, timeout=60)
        listing = subprocess.run([nm, "-g", target], capture_output=True, text=True, check=True)
        found = re.findall(r"^[0-9a-f ]* ([A-Za-z]) (mux_\w+)$", listing.stdout, re.MULTILINE)
        return (
            {name for kind, name in found if kind != "U"},
            {name for kind, name in found if kind == "U"},
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        of = dict(zip(_UNITS, pool.map(symbols, _UNITS), strict=True))
    home = {name: unit for unit, (defined, _) in of.items() for name in defined}
    return {unit: {home[name] for name in needed} for unit, (_, needed) in of.items()}


def _floors(unit: str) -> list[list[str]]:
    return _LOAD_FLOORS if _UNITS[unit].parent.name == "load" else _FLOORS


def _number(unit: str, floors: list[list[str]]) -> int:
    return next(number for number, units in enumerate(floors) if unit in units)


def test_every_unit_stands_on_a_floor_and_every_floor_has_its_units() -> None:
    assert {
        unit for floors in (_FLOORS, _LOAD_FLOORS) for units in floors for unit in units
    } == set(_UNITS)


def test_a_unit_calls_only_units_below_its_own(tmp_path: Path) -> None:
    # one test: else each process of a parallel run would compile them all
    calls = _calls(tmp_path)
    wrong = {}
    for unit in _UNITS:
        floors = _floors(unit)
        below = {each for units in floors[: _number(unit, floors)] for each in units}
        wrong[unit] = calls[unit] - below
    assert not any(wrong.values()), {unit: sorted(who) for unit, who in wrong.items() if who}
    # and calls are seen
    assert "connection" in calls["verb_relay"]
    assert "syscalls" in calls["epoll_ready"]


def _included(path: Path) -> Iterator[str]:
    yield from re.findall(r'^#include "(\w+\.h)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def test_no_include_goes_in_a_circle() -> None:
    graph = {path.name: set(_included(path)) for path in CSRC.rglob("*.[ch]")}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("unit", [each for units in _FLOORS[3:5] for each in units])
def test_a_backend_does_not_know_the_loop(unit: str) -> None:
    known, waiting = set(), [_UNITS[unit].name]
    while waiting:
        name = waiting.pop()
        known.add(name)
        waiting += set(_included(CSRC / name)) - known
    assert not known & {"loop.h", "loop_internal.h", "connection.h", "verb.h"}
