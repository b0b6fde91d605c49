"""One source of the version, and metadata that says the same everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import muxcore


def _project(root: Path) -> dict[str, object]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_the_version_stands_in_one_place(root: Path) -> None:
    assert version("muxcore") == muxcore.__version__
    assert "version" not in _project(root)
    assert _project(root)["dynamic"] == ["version"]


def test_importing_muxcore_imports_nothing_but_python_and_cffi() -> None:
    with_it, without = (_loaded("import sys, muxcore"), _loaded("import sys"))
    foreign = with_it - without - set(sys.stdlib_module_names)
    assert foreign - {"muxcore", "cffi", "_cffi_backend"} == set()


def _loaded(statement: str) -> set[str]:
    """Return the top modules that are loaded after a statement, those that site loads included."""
    command = [sys.executable, "-c", f"{statement}; print(*sys.modules)"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {name.partition(".")[0] for name in names}


def test_every_supported_python_is_in_the_classifiers(root: Path) -> None:
    wanted = _project(root)["requires-python"]
    oldest = int(re.fullmatch(r">=3\.(\d+)", str(wanted))[1])  # type: ignore[index]
    listed = re.findall(r"Python :: 3\.(\d+)'", str(_project(root)["classifiers"]))
    assert [int(minor) for minor in listed] == list(range(oldest, oldest + len(listed)))


def test_the_change_log_has_a_place_for_what_comes_next(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]", text, re.MULTILINE)


def test_a_release_has_its_section_in_the_change_log(root: Path) -> None:
    if "dev" in muxcore.__version__:
        pytest.skip("this is no release")
    text = (root / "CHANGELOG.md").read_text()
    assert f"## [{muxcore.__version__}]" in text


def test_the_metadata_carries_an_spdx_licence(root: Path) -> None:
    assert metadata("muxcore")["License-Expression"] == "MIT"
    assert (root / "LICENSE").read_text().startswith("MIT License")
