"""The workflows: valid, pinned, with the least permissions, and without a secret."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_USES = re.compile(r"uses: (?P<action>[^@\s]+)(?:@(?P<at>\S+))?(?: # (?P<version>\S+))?")


@pytest.fixture
def workflows(root: Path) -> list[Path]:
    found = sorted((root / ".github" / "workflows").glob("*.yml"))
    assert len(found) >= 4
    return found


@pytest.fixture
def release_notes(root: Path) -> ModuleType:
    where = root / ".github" / "release_notes.py"
    spec = importlib.util.spec_from_file_location("release_notes", where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_action_is_pinned_to_one_digest_that_names_its_version(
    workflows: list[Path],
) -> None:
    pins = defaultdict(set)
    for workflow in workflows:
        for found in _USES.finditer(workflow.read_text()):
            if not found["action"].startswith("./"):
                pins[found["action"]].add((found["at"], found["version"]))
    assert pins
    for action, at in pins.items():
        ((digest, version),) = at
        assert re.fullmatch(r"[0-9a-f]{40}", digest), action
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version), action


def test_no_workflow_holds_a_permission_for_all_of_its_jobs(workflows: list[Path]) -> None:
    for workflow in workflows:
        assert re.search(r"^permissions: \{\}$", workflow.read_text(), re.MULTILINE), workflow.name


def test_no_workflow_knows_a_secret(workflows: list[Path]) -> None:
    assert [w.name for w in workflows if "secrets." in w.read_text()] == []


def test_a_release_needs_its_tag_its_version_and_its_section_to_agree(
    release_notes: ModuleType,
) -> None:
    log = "# Log\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-01\n\n- new\n\n## [1.1.0]\n\n- old\n"
    assert release_notes.notes("v1.2.0", "1.2.0", log) == "- new\n"
    assert release_notes.notes("v1.1.0", "1.1.0", log) == "- old\n"
    with pytest.raises(SystemExit, match=r"the tag is v1\.2\.0, the version is 1\.2\.1"):
        release_notes.notes("v1.2.0", "1.2.1", log)
    with pytest.raises(SystemExit, match=r"no section \[1\.3\.0\]"):
        release_notes.notes("v1.3.0", "1.3.0", log)
    with pytest.raises(SystemExit, match="no section"):
        release_notes.notes("v1.2.0", "1.2.0", "## [1.2.0]\n\n## [1.1.0]\n- old\n")


@pytest.mark.wheel
def test_the_workflows_keep_to_their_schema(run: Run, workflows: list[Path], root: Path) -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    run(*check, "vendor.github-workflows", *workflows)
    run(*check, "vendor.dependabot", root / ".github" / "dependabot.yml")


@pytest.mark.wheel
def test_zizmor_finds_no_weakness_in_the_workflows(run: Run, root: Path) -> None:
    run(Path(sys.executable).with_name("zizmor"), "--offline", "--pedantic", root / ".github")
