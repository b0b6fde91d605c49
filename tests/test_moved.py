"""Modules under their former names still work, and say where they are now."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import muxcore
from muxcore._moved import MOVED
from muxcore.abc import Engine


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_module_that_moved_gives_what_the_new_one_has_and_warns(old: str) -> None:
    new = importlib.import_module(MOVED[old])
    name = next(name for name in vars(new) if not name.startswith("_") and name != "annotations")
    with pytest.warns(DeprecationWarning, match=f"{old}.{name} is {MOVED[old]}.{name} now"):
        assert getattr(importlib.import_module(old), name) is getattr(new, name)


def test_the_warning_names_the_line_that_imports() -> None:
    program = "from muxcore.engine import Engine\nprint(Engine.__module__)"
    command = [sys.executable, "-W", "default", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == "muxcore.abc\n", done.stderr
    assert "<string>:1: DeprecationWarning: muxcore.engine.Engine is" in done.stderr


def test_an_old_import_hides_no_public_name() -> None:
    old = importlib.import_module("muxcore.engine")
    with pytest.warns(DeprecationWarning, match="muxcore.abc.Engine"):
        assert old.Engine is Engine
    assert muxcore.engine("pure-select").name == "pure-select"


def test_what_never_was_there_is_not_there_now() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        importlib.import_module("muxcore.engine").nothing_of_this_name  # noqa: B018


def test_no_public_name_is_hidden_by_a_module() -> None:
    files = {path.stem for path in Path(muxcore.__file__).parent.iterdir()}
    assert not files & set(muxcore.__all__) - {"__version__"}
