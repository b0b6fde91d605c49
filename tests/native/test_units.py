"""Every test of the C programs beside this file, each as a test of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
_NAMED = re.compile(r"^(?:TEST|MATRIX)\((\w+)", re.MULTILINE)
_DEADLINE = 300.0  # s; the longest takes 2 s, and 50 times that under valgrind


_BACKENDS = ("memory", "late")  # of a loop that is scripted; each of its tests runs on both


def _tests() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(HERE.glob("unit_*.c")):
        text = path.read_text(encoding="utf-8")
        backends = _BACKENDS if '#include "scripted.h"' in text else ("",)
        names = [name for name in _NAMED.findall(text) if name != "sentence"]
        found += [(path.stem, backend, name) for backend in backends for name in names]
    return found


@pytest.mark.parametrize(
    ("unit", "backend", "name"),
    _tests(),
    ids=["-".join(filter(None, (name, backend))) for _, backend, name in _tests()],
)
def test_unit(program: Callable[..., Path], unit: str, backend: str, name: str) -> None:
    wrapper = shlex.split(os.environ.get("MUXCORE_TEST_WRAPPER", ""))  # such as valgrind
    command = [*wrapper, str(program(unit, backend)), name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE)
    assert result.returncode == 0, result.stderr


@pytest.mark.deep
def test_every_call_failing_at_each_of_its_first_200_calls(program: Callable[..., Path]) -> None:
    depth = {**os.environ, "MUXCORE_FAULT_DEPTH": "200"}
    result = subprocess.run(
        [str(program("unit_faults"))], capture_output=True, text=True, timeout=3600, env=depth
    )
    assert result.returncode == 0, result.stderr


def test_without_a_match_a_program_says_so(program: Callable[..., Path]) -> None:
    result = subprocess.run([str(program("unit_slots")), "nonsense"], capture_output=True)
    assert result.returncode == 2
