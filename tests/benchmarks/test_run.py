"""The benchmarks' entry point."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from muxcore.native.core import missing

_ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_ROOT / "benchmarks" / "run.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_make_bench_names_a_program_that_is_there() -> None:
    (recipe,) = [
        line
        for line in (_ROOT / "Makefile").read_text().splitlines()
        if line.endswith("$(BENCH_ARGS)")
    ]
    assert (_ROOT / recipe.split()[1]).is_file()


def test_the_list_names_engines_peers_and_cells() -> None:
    done = run("--list")
    assert done.returncode == 0
    kinds = {line.split()[0] for line in done.stdout.splitlines()}
    assert kinds == {"engine", "peer", "cell"}


@pytest.mark.deep
def test_fairness_is_measured_with_and_without_the_flood(tmp_path: Path) -> None:
    where = tmp_path / "figures.json"
    options = ("--rounds", "2", "--blocks", "1", "--json", str(where))
    done = run("--fairness", "--subjects", "pure-epoll:callback", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(where.read_text())["fairness"]
    assert row["flood_megabytes_per_second"] > 0
    for part in ("alone", "beside"):
        assert row[part]["messages"] > 0
        assert row[part]["p99_us"] >= row[part]["p50_us"] > 0
    assert "beside a flood" in done.stdout


@pytest.mark.deep
def test_what_a_turn_costs_is_measured(tmp_path: Path) -> None:
    where = tmp_path / "figures.json"
    options = ("--rounds", "4", "--blocks", "1", "--json", str(where))
    done = run("--turns", "--subjects", "pure-epoll", "pure-select", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in json.loads(where.read_text())["turns"]:
        assert row["first_answer_ms"] >= 5
        assert row.get("sends", 1000) == 1000  # one each, on the pure engines
    assert row["against"]["median"] > 0
    assert "sends of a fan-out" in done.stdout


def test_a_turn_is_an_engine_s() -> None:
    done = run("--turns", "--subjects", "floor")
    assert done.returncode == 2
    assert "--turns measures engines; floor: there is no such engine" in done.stderr


@pytest.mark.parametrize("name", ["--fairness", "--turns"])
@pytest.mark.parametrize("more", [("--cells", "64B-50"), ("--memory",)])
def test_fairness_and_turns_are_measurements_of_their_own(name: str, more: tuple[str, ...]) -> None:
    done = run(name, "--subjects", "pure-epoll", *more)
    assert done.returncode == 2
    assert f"{name} is a measurement of its own" in done.stderr


def test_figures_that_could_not_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    done = run("--subjects", "pure-epoll", "--json", str(tmp_path / "no" / "x.json"))
    assert done.returncode == 2
    assert "cannot be written: No such file or directory" in done.stderr


@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")
@pytest.mark.skipif(missing is not None, reason=f"no C core: {missing}")
@pytest.mark.deep
def test_what_goes_on_beside_a_program_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, str(_ROOT / "benchmarks" / "beside.py"), "--rounds", "1"],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("here / elsewhere: ") == 2


@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")
@pytest.mark.skipif(missing is not None, reason=f"no C core: {missing}")
def test_what_an_idle_pair_costs_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, str(_ROOT / "benchmarks" / "pairs.py"), "--pairs", "120"],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"an idle pair: -?\d+ bytes\n", done.stdout)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("mode", "much", "said"),
    [
        ("cost", ("--rounds", "15"), "two workers against one process"),
        ("kills", ("--seconds", "2"), "ended without: 0"),
        ("stalls", ("--rounds", "10"), "two workers "),
    ],
)
def test_what_workers_cost_and_outlive_is_measured(
    mode: str, much: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(_ROOT / "benchmarks" / "workers.py"), mode, *much]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [*command, "--json", str(figures)], capture_output=True, text=True, timeout=50, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert json.loads(figures.read_text())
