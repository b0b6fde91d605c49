"""The core on a simulated kernel: random scripts, and what they have to find in it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .build import Builder, core
from .faults import FAULTS

_SEEDS = 3000  # under a second
_PARITY_SEEDS = 12  # on the real kernel up to a quarter of a second each: it waits for quiet
_FAULT_SEEDS = 10_000  # within which each planted fault is to be found
_DEADLINE = 120.0  # s; the slowest takes 5, most of it the compiler's

pytestmark = pytest.mark.timeout(_DEADLINE)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    compiler = shlex.split(os.environ.get("CC", "cc"))[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C compiler ({compiler!r} is not installed)")
    return Builder(tmp_path_factory.mktemp("simulation"))


def _run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE)


@pytest.mark.deep  # `make simulate` has more seeds
def test_no_invariant_is_broken(builder: Builder) -> None:
    result = _run(builder.program(), "--seeds", f"1..{_SEEDS}")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_same_scripts_come_out_the_same_on_the_real_kernel(builder: Builder) -> None:
    with ThreadPoolExecutor(2) as pool:
        simulated, real = pool.map(
            lambda program: _run(program, "--plain", "--seeds", f"1..{_PARITY_SEEDS}"),
            (builder.program(), builder.program(real=True)),
        )
    assert simulated.returncode == 0, simulated.stdout + simulated.stderr
    assert real.returncode == 0, real.stdout + real.stderr
    assert real.stdout.splitlines() == simulated.stdout.splitlines()


def test_the_simulated_kernel_says_what_the_real_one_says_call_by_call(builder: Builder) -> None:
    seeds = "--calls", "--seeds", f"1..{_PARITY_SEEDS}"
    simulated = _run(builder.program(), *seeds)
    real = _run(builder.program(real=True), *seeds)
    assert len(simulated.stdout.splitlines()) > 50 * _PARITY_SEEDS
    assert real.stdout.splitlines() == simulated.stdout.splitlines()


@pytest.mark.deep
def test_a_seed_is_replayed_call_by_call_and_shrunk_to_a_short_script(builder: Builder) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "EOF is told twice")
    program = builder.program(changes=fault.changes)
    found = _run(program, "--seeds", "1..1000")
    seed = re.match(r"seed (\d+): events: ", found.stdout)
    assert found.returncode == 1
    assert seed, found.stdout
    traced = _run(program, "--seed", seed[1], "--trace")
    assert found.stdout.strip() in traced.stdout
    assert "epoll_wait" in traced.stdout
    shrunk = _run(program, "--shrink", seed[1])
    operations = re.search(r"events, with (\d+) of (\d+) operations", shrunk.stdout)
    assert operations, shrunk.stdout
    assert int(operations[1]) < 10 < int(operations[2])


def _found(builder: Builder, number: int) -> str:
    result = _run(builder.program(changes=FAULTS[number].changes), "--seeds", f"1..{_FAULT_SEEDS}")
    found = re.search(r"seed (\d+): (\w+)", result.stdout)
    return f"seed {found[1]}: {found[2]}" if found else ""


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_every_planted_fault_is_found(builder: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    builder.program()  # what they share
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda number: _found(builder, number), range(len(FAULTS))))
    with capsys.disabled():
        for fault, what in zip(FAULTS, found, strict=True):
            print(f"{fault.name:60} {what or 'NOT FOUND'}")
    assert not [fault.name for fault, what in zip(FAULTS, found, strict=True) if not what]


@pytest.mark.parametrize("number", range(0, len(FAULTS), 40), ids=lambda n: FAULTS[n].name)
def test_a_planted_fault_is_found(builder: Builder, number: int) -> None:
    assert _found(builder, number)


def test_enough_faults_are_planted_and_each_finds_its_text() -> None:
    assert len(FAULTS) >= 25
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert core(fault.changes) != core()
