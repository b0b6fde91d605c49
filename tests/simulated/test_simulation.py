"""The Python engines on a simulated kernel: random scripts, and what they have to find in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .faults import FAULTS, found, plant
from .run import run
from .script import ENGINES, draw

_SEEDS = 200  # of each engine and trigger: half a second
_DEADLINE = 120.0  # s; none takes more than a few, but for the deep one
_ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(_DEADLINE)


@pytest.mark.parametrize("engine", ENGINES, ids="-".join)
def test_no_invariant_is_broken(engine: tuple[str, str]) -> None:
    broken = {seed: run(draw(seed, engine)) for seed in range(1, _SEEDS + 1)}
    assert {seed: what for seed, what in broken.items() if what} == {}


def test_a_script_does_the_same_whenever_it_is_run() -> None:
    first: list[str] = []
    second: list[str] = []
    for trace in (first, second):
        for seed in range(1, 6):
            assert run(draw(seed), trace.append) == ""
    assert first == second
    assert len(first) > 200


def _main(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulated", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE)


def test_a_seed_is_replayed_call_by_call_and_shrunk_to_a_short_script(tmp_path: Path) -> None:
    plant(next(fault for fault in FAULTS if fault.name == "EOF is told twice"), tmp_path)
    failed = _main(tmp_path, "--seeds", "1..1000")
    seed = re.match(r"seed (\d+): order: ", failed.stdout)
    assert failed.returncode == 1
    assert seed, failed.stdout
    traced = _main(tmp_path, "--seed", seed[1], "--trace")
    assert failed.stdout.strip() in traced.stdout
    assert re.search("epoll_wait|select", traced.stdout)
    shrunk = _main(tmp_path, "--shrink", seed[1])
    operations = re.search(r"with (\d+) of (\d+) operations", shrunk.stdout)
    assert operations, shrunk.stdout
    assert int(operations[1]) < 12 < int(operations[2])


def test_several_processes_share_the_seeds() -> None:
    result = _main(_ROOT, "--seeds", "1..40", "--jobs", 2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("40 seeds")


@pytest.mark.parametrize("number", range(0, len(FAULTS), 12), ids=lambda n: FAULTS[n].name)
def test_a_planted_fault_is_found(number: int) -> None:
    assert found(FAULTS[number])


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_every_planted_fault_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seeds = list(pool.map(found, FAULTS))
    with capsys.disabled():
        for fault, what in zip(FAULTS, seeds, strict=True):
            print(f"{fault.name:72} {what[:60] or 'NOT FOUND'}")
    assert not [fault.name for fault, what in zip(FAULTS, seeds, strict=True) if not what]


def test_enough_faults_are_planted_and_each_finds_its_text(tmp_path: Path) -> None:
    assert len(FAULTS) >= 15
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for number, fault in enumerate(FAULTS):
        plant(fault, tmp_path / str(number))
