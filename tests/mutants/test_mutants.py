"""The suites are judged by planted faults: every mutant of our engines fails a scenario.

The quick form runs, for each mutant, the scenarios that are expected to catch it; the deep form
runs everything and says how many do. In both the control has no fault, and nothing is caught.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import muxcore

from .drain_faults import DRAIN_MUTANTS
from .edge_faults import EDGE_MUTANTS
from .faults import MUTANTS as ENGINE_MUTANTS
from .faults import Mutant
from .life_faults import LIFE_MUTANTS
from .relay_faults import RELAY_MUTANTS

_ALL = [*ENGINE_MUTANTS, *EDGE_MUTANTS, *RELAY_MUTANTS, *LIFE_MUTANTS, *DRAIN_MUTANTS]
# Each is a start of pytest. Every fifth shows with each change that the suites judge, of whatever
# kind; all of them are the deep tests'.
FIRST = _ALL[::20]
MUTANTS = [*FIRST, *(each for each in _ALL if each not in FIRST)]

_PACKAGE = Path(muxcore.__file__).parent
_HARD_LIMIT = 50.0  # s; scenarios end by their own deadlines long before
_DEADLINE = "1"  # s for what must happen; a mutant that is slow is caught as well
_PATIENT = "10"  # s for the same without a fault: nothing waits in vain, so it costs nothing
_SUITES = sorted({mutant.suite for mutant in MUTANTS})
_TESTS = """
from muxcore.testing import ContractSuite, ProcessSuite, SurvivalSuite

class Test{suite}(ContractSuite, SurvivalSuite{more}):
    engine = {engine!r}
    trigger = {trigger!r}
"""


def _run(
    mutant: Mutant, folder: Path, *, everything: bool = False, deadline: str = _DEADLINE
) -> str:
    """Run scenarios against a mutant; return pytest's output."""
    copy = folder / "muxcore"
    shutil.copytree(_PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "native"))
    for name, old, new in mutant.changes:
        source = (copy / name).read_text()
        assert source.count(old) == 1, f"{name} has {source.count(old)} times: {old!r}"
        (copy / name).write_text(source.replace(old, new))
    words = re.findall("[A-Z][a-z]+", mutant.suite)
    trigger = words.pop().lower() if words[-1] in ("Level", "Edge") else "level"
    (folder / "test_mutant.py").write_text(
        _TESTS.format(
            suite=mutant.suite,
            engine="-".join(words).lower(),
            trigger=trigger,
            more=", ProcessSuite" if "Process" in mutant.suite else "",
        )
    )
    (folder / "pytest.ini").write_text("[pytest]\n")
    selected = [] if everything else ["-x", "-k", " or ".join(f"test_{k}" for k in mutant.killers)]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
    command.append("--assert=plain")  # who fails is asked, not why; rewriting took half of the time
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MUXCORE"))}
    environment |= {"PYTHONPATH": str(folder), "MUXCORE_TESTING_DEADLINE": deadline}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # and plug-ins most of the rest
    with subprocess.Popen(
        command + selected,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a mutant may leave children behind: all of them end here
    ) as process:
        try:
            output, _ = process.communicate(timeout=_HARD_LIMIT * (10 if everything else 1))
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert process.returncode in (0, 1), f"pytest itself failed ({process.returncode}):\n{output}"
    return output


@pytest.mark.parametrize(
    "mutant",
    [*FIRST, *(pytest.param(each, marks=pytest.mark.deep) for each in MUTANTS[len(FIRST) :])],
    ids=lambda mutant: mutant.name.replace(" ", "-"),
)
def test_a_mutant_fails_a_scenario(mutant: Mutant, tmp_path: Path) -> None:
    output = _run(mutant, tmp_path)
    assert re.search(r"\b1 failed", output), f"nothing caught: {mutant.name}\n{output}"


@pytest.mark.parametrize(
    "suite", [_SUITES[0], *(pytest.param(each, marks=pytest.mark.deep) for each in _SUITES[1:])]
)
def test_without_a_fault_nothing_is_caught(suite: str, tmp_path: Path) -> None:
    killers = {killer for mutant in MUTANTS if mutant.suite == suite for killer in mutant.killers}
    control = Mutant("no fault", suite, (), tuple(sorted(killers)))
    output = _run(control, tmp_path, deadline=_PATIENT)
    found = re.search(r"^(\d+) passed", output.splitlines()[-1])
    assert found, f"caught without a fault:\n{output}"
    assert int(found[1]) >= len(killers), f"a killer did not run:\n{output}"


def test_there_are_faults_of_every_model() -> None:
    assert len(MUTANTS) >= 15
    assert {m.suite.removesuffix("Level").removesuffix("Edge") for m in MUTANTS} == {
        "PureEpoll",
        "PureSelect",
        "PureProcess",
    }


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_fails_somewhere_in_the_whole_of_the_suites(
    mutant: Mutant, tmp_path: Path
) -> None:
    output = _run(mutant, tmp_path, everything=True)
    found = re.search(r"(\d+) failed", output)
    assert found, f"nothing caught: {mutant.name}\n{output}"
    print(f"{mutant.name}: {found[1]} scenarios")


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "suite", [_SUITES[0], *(pytest.param(each, marks=pytest.mark.deep) for each in _SUITES[1:])]
)
def test_without_a_fault_the_whole_of_the_suites_catches_nothing(
    suite: str, tmp_path: Path
) -> None:
    control = Mutant("no fault", suite, (), ())
    output = _run(control, tmp_path, everything=True, deadline=_PATIENT)
    assert re.search(r"^\d+ passed", output.splitlines()[-1]), f"caught without a fault:\n{output}"
