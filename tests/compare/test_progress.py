"""How far a comparison is: on a terminal in one line, in a log in a line for each cell."""

from __future__ import annotations

import io

import pytest

from muxcore.compare import progress
from muxcore.compare.progress import Progress
from muxcore.compare.rounds import Cell

_CELLS = [Cell(name, {}, seconds=0.1, warmup=0.0, rounds=10) for name in ("few", "many")]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_follows_the_clock(clock: list[float]) -> None:
    shown = Progress(io.StringIO())
    shown.plan(_CELLS, servers=2, blocks=1)
    clock[0] = 30.0
    for number in range(10):
        shown.round(_CELLS[0], 2, number)
    elapsed, _, rest = shown.left().partition(" of about ")
    whole, _, left = rest.partition(", ")
    assert elapsed == "0:30"
    assert left.endswith(" left")
    minutes, seconds = whole.split(":")
    assert 45 <= 60 * int(minutes) + int(seconds) < 60  # half of the rounds, and the one start


def test_more_than_was_planned_is_no_time_left(clock: list[float]) -> None:
    shown = Progress(io.StringIO())
    clock[0] = 61.0
    shown.round(_CELLS[0], 2, 0)
    assert shown.left() == "1:01"


def test_a_log_has_a_line_for_each_cell() -> None:
    log = io.StringIO()
    shown = Progress(log)
    shown.plan(_CELLS, servers=2, blocks=1)
    for cell in _CELLS:
        for number in range(10):
            shown.round(cell, 2, number)
    shown.costs("one")
    shown.close()
    assert [line.partition("  ")[2] for line in log.getvalue().splitlines()] == [
        "few",
        "many",
        "memory and system calls",
    ]


def test_a_terminal_has_one_line_that_is_gone_at_the_end() -> None:
    terminal = _Terminal()
    shown = Progress(terminal)
    shown.plan(_CELLS, servers=2, blocks=1)
    shown.round(_CELLS[0], 2, 6)
    shown.close()
    assert "few: round 7 of 10" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nothing_is_told_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(quiet=True)
    shown.round(_CELLS[0], 2, 0)
    shown.close()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_cell_that_goes_on_says_why() -> None:
    terminal = _Terminal()
    shown = Progress(terminal)
    shown.round(_CELLS[0], 2, _CELLS[0].rounds)
    assert f"round {_CELLS[0].rounds + 1}; the machine is restless" in terminal.getvalue()
