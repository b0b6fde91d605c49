"""What all examples have in common."""

from __future__ import annotations

import ast
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

_EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))

Run = Callable[..., tuple[int, str]]

each_example = pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.stem)


@each_example
def test_each_example_has_tests_and_says_how_it_is_run(path: Path) -> None:
    assert Path(__file__).with_name(f"test_{path.name}").exists()
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
    assert f"    python examples/{path.name} 9000" in lines


@each_example
def test_an_address_that_is_taken_ends_it_with_a_sentence(path: Path, run_example: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        status, complaint = run_example(path.stem, where, "--engine", "pure")
    assert status == 1
    assert complaint.startswith(f"{path.name}: ")
    assert "another socket listens there" in complaint
    assert "Traceback" not in complaint


def test_a_room_whose_members_share_no_process_is_refused_before_it_opens(run_example: Run) -> None:
    status, complaint = run_example("chat_room", "127.0.0.1:0", "--engine", "pure-process")
    assert status == 1
    assert "shared_state" in complaint
    assert "pure-select" in complaint  # it says what to take instead
