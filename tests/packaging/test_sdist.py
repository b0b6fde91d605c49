"""The sdist holds all that is needed to build and to test, and nothing else."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

_GENERATED = {"PKG-INFO", "setup.cfg"}  # by setuptools, beside what the repository holds


def _names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        members = [m for m in archive.getmembers() if not m.isdir()]
    assert all(member.isfile() for member in members), "links and devices have no place in an sdist"
    return {member.name.split("/", 1)[1] for member in members}


def test_the_sdist_holds_every_tracked_file_and_nothing_else(sdist: Path, root: Path) -> None:
    git = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("this tree is no git checkout, there is no list to compare with")
    packed = {
        name for name in _names(sdist) - _GENERATED if not name.startswith("muxcore.egg-info/")
    }
    tracked = {name for name in git.stdout.splitlines() if name != ".gitignore"}
    assert packed == tracked


def test_the_sdist_is_small_enough_to_be_read(sdist: Path) -> None:
    # Sources, tests and documents are text, 1.2 MB of it compressed; more than this means that an
    # artefact slipped in.
    assert sdist.stat().st_size < 3 << 19


def test_the_sdist_has_one_top_folder_named_after_the_release(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        tops = {name.split("/", 1)[0] for name in archive.getnames()}
    assert tops == {sdist.name.removesuffix(".tar.gz")}
