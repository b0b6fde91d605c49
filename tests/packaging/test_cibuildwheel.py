"""The set of wheels is exactly the intended one; what pip picks from it is what is meant."""

from __future__ import annotations

import itertools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_PYTHONS = ("cp311", "cp314t", "cp315t")
_PLATFORMS = (
    "manylinux_x86_64",
    "manylinux_aarch64",
    "manylinux_riscv64",
    "musllinux_x86_64",
    "musllinux_aarch64",
)


def test_cibuildwheel_builds_exactly_the_intended_wheels(run: Run, root: Path) -> None:
    command = [sys.executable, "-m", "cibuildwheel", "--platform", "linux"]
    said = run(*command, "--print-build-identifiers", root).stdout
    identifiers = [line for line in said.splitlines() if line.startswith("cp")]
    assert sorted(identifiers) == sorted(map("-".join, itertools.product(_PYTHONS, _PLATFORMS)))


# What a release uploads: tags as cibuildwheel's images and auditwheel make them of the set above.
_TAGS = tuple(
    f"{python}-{platform}"
    for python in ("cp311-abi3", "cp314-cp314t", "cp315-abi3.abi3t")
    for platform in (
        "manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64",
        "manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64",
        "manylinux_2_31_riscv64.manylinux_2_39_riscv64",
        "musllinux_1_2_x86_64",
        "musllinux_1_2_aarch64",
    )
)


@pytest.fixture(scope="module")
def release(dist: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all wheels of a release, as far as pip looks at them: by their names."""
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stem = "-".join(wheel.name.split("-")[:2])
    for tag in _TAGS:
        with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as copy:
            for name, data in members.items():
                copy.writestr(name, data)
    return folder


def _accepted(libc: str, architecture: str) -> list[str]:
    """Return the --platform options for what pip accepts on a system with this libc."""
    family, major, minor = libc.split("_")
    tags = [f"{family}_{major}_{n}_{architecture}" for n in range(int(minor), -1, -1)]
    return [word for tag in tags for word in ("--platform", tag)]


@pytest.mark.parametrize(
    ("python", "abi", "libc", "architecture", "chosen"),
    [
        ("3.11", "abi3", "manylinux_2_17", "x86_64", "cp311-abi3-manylinux2014_x86_64"),
        ("3.12", "abi3", "manylinux_2_28", "x86_64", "cp311-abi3-manylinux2014_x86_64"),
        ("3.13", "abi3", "musllinux_1_2", "x86_64", "cp311-abi3-musllinux_1_2_x86_64"),
        ("3.14", "abi3", "manylinux_2_36", "aarch64", "cp311-abi3-manylinux2014_aarch64"),
        ("3.14", "abi3", "musllinux_1_2", "aarch64", "cp311-abi3-musllinux_1_2_aarch64"),
        ("3.13", "abi3", "manylinux_2_39", "riscv64", "cp311-abi3-manylinux_2_31_riscv64"),
        ("3.14", "cp314t", "manylinux_2_28", "x86_64", "cp314-cp314t-manylinux2014_x86_64"),
        ("3.15", "abi3t", "manylinux_2_28", "aarch64", "cp315-abi3.abi3t-manylinux2014_aarch64"),
        ("3.13", "cp313t", "manylinux_2_28", "x86_64", None),
        ("3.11", "abi3", "manylinux_2_28", "s390x", None),
        ("3.11", "abi3", "musllinux_1_1", "x86_64", None),
        ("3.10", "abi3", "manylinux_2_28", "x86_64", None),
    ],
)
def test_pip_picks_the_wheel_that_is_meant_for_a_system(
    python: str,
    abi: str,
    libc: str,
    architecture: str,
    chosen: str | None,
    run: Run,
    release: Path,
    tmp_path: Path,
) -> None:
    run(
        *(sys.executable, "-m", "pip", "download", "--no-index", "--find-links", release),
        *("--no-deps", "--only-binary=:all:", "--implementation", "cp", "--pre"),
        *("--python-version", python, "--abi", abi, *_accepted(libc, architecture)),
        *("--dest", tmp_path, "muxcore"),
        fails=chosen is None,
    )
    picked = [path.name.split("-", 2)[2].removesuffix(".whl") for path in tmp_path.iterdir()]
    assert [name.startswith(chosen or "-") for name in picked] == ([True] if chosen else [])
