"""A third party's engine: a distribution of its own, found by name, proved by our suites."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Environment = Callable[[Path], Path]
_THEIRS = Path(__file__).with_name("third_party")


def test_an_installed_engine_is_found_by_name_and_passes_both_suites(
    installed: Environment, run: Run, tmp_path: Path
) -> None:
    python = installed(Path(sys.executable))
    theirs = shutil.copytree(_THEIRS, tmp_path / "theirs")
    run(python, "-m", "pip", "install", "--quiet", theirs, "pytest", "pytest-timeout")

    shown = run(python.parent / "muxcore", "engines", "--json", cwd=tmp_path).stdout
    engines = {info["name"]: info for info in json.loads(shown)}
    assert engines["poll"]["available"] is True
    assert engines["broken"]["available"] is False, "a broken entry is listed"
    assert "NoSuchEngine" in engines["broken"]["reason"]
    assert engines["pure-epoll"]["available"], "and breaks nothing else"

    (tmp_path / "away").mkdir()
    shutil.copy(_THEIRS / "test_poll.py", tmp_path / "away")
    done = run(python, "-m", "pytest", "-q", "-rs", "--timeout=60", cwd=tmp_path / "away")
    assert " passed" in done.stdout
    skips = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    lacks = tuple(f"the engine poll has no {name}" for name in ("hears_resets", "rates"))
    assert all(line.endswith(lacks) for line in skips), done.stdout
