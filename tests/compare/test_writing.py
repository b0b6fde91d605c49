"""Figures are never lost: what cannot be written is told before the work, or goes elsewhere."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from muxcore.cli import main
from muxcore.compare import session, writing


@pytest.mark.parametrize(
    ("command", "option"), [("compare", "--json"), ("compare", "--html"), ("demo", "--html")]
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    command: str, option: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "compare", None)  # nothing is measured
    where = str(tmp_path / "no" / "x")
    assert main([command, "pure-epoll", option, where]) == 1
    complaint = capsys.readouterr().err
    assert complaint == (
        f"muxcore: {where} cannot be written: No such file or directory; name another file\n"
    )


def test_what_is_there_is_left_as_it_is_and_what_is_not_is_not_made(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("figures of last year")
    writing.check(None, old, new, Path(os.devnull))
    assert old.read_text() == "figures of last year"
    assert not new.exists()
    with pytest.raises(writing.FileError, match="Is a directory"):
        writing.check(tmp_path)


def test_a_report_that_nobody_named_takes_the_place_of_none(tmp_path: Path) -> None:
    usual = tmp_path / "report.html"
    assert writing.place(None, usual) == usual
    usual.touch()
    assert writing.place(None, usual) == tmp_path / "report-2.html"
    (tmp_path / "report-2.html").touch()
    assert writing.place(None, usual) == tmp_path / "report-3.html"
    assert writing.place(usual, tmp_path / "other") == usual


def test_what_cannot_be_written_any_more_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = writing.write(tmp_path / "gone" / "x.json", "[1]")
    where, _, why = said.partition(" ")
    assert json.loads(Path(where).read_text()) == [1]
    assert why == f"({tmp_path}/gone/x.json cannot be written: No such file or directory)"


def test_what_can_be_written_nowhere_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert writing.write(tmp_path / "gone" / "x.json", "[1]").startswith("above (")
    assert capsys.readouterr().out == "[1]\n"
