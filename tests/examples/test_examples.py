"""What all examples have in common."""

from __future__ import annotations

import ast
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

_EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
_PROGRAMS = [path for path in _EXAMPLES if "__main__" in path.read_text()]  # the rest are modules

Run = Callable[..., tuple[int, str]]

each_program = pytest.mark.parametrize("path", _PROGRAMS, ids=lambda path: path.stem)


def how_it_is_run(path: Path) -> list[str]:
    """Return the arguments after the port, as the example itself shows them."""
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
    command = f"    python examples/{path.name} 9000"
    shown = [line for line in lines if line == command or line.startswith(command + " ")]
    assert shown, f"it does not say {command!r}"
    return shlex.split(shown[0].removeprefix(command))


@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.stem)
def test_each_example_has_tests(path: Path) -> None:
    assert Path(__file__).with_name(f"test_{path.name}").exists()


@each_program
def test_each_program_says_how_it_is_run_and_a_taken_address_ends_it_with_a_sentence(
    path: Path, run_example: Run
) -> None:
    further = how_it_is_run(path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        status, complaint = run_example(path.stem, where, "--engine", "pure", *further)
    assert status == 1
    assert complaint.startswith(f"{path.name}: ")
    reasons = ("another socket listens there", "address already in use")  # muxcore's, asyncio's
    assert any(reason in complaint for reason in reasons)
    assert "Traceback" not in complaint


def test_a_room_whose_members_share_no_process_is_refused_before_it_opens(run_example: Run) -> None:
    status, complaint = run_example("chat_room", "127.0.0.1:0", "--engine", "pure-process")
    assert status == 1
    assert "shared_state" in complaint
    assert "pure-select" in complaint  # it says what to take instead
