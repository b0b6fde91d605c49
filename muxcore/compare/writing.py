"""Where figures go: a place that cannot be written is told of before the work, not after it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from muxcore.errors import MuxcoreError


class FileError(MuxcoreError, ValueError):
    """A file that cannot be written; the message says which, why, and what to do."""


def place(asked: Path | None, usual: Path) -> Path:
    """Return where to write: the file asked for, else a usual one whose name is not taken yet.

    So an earlier report is never lost to one that nobody named: report.html, report-2.html, …
    """
    if asked is not None:
        return asked
    number = 1
    found = usual
    while found.exists():
        number += 1
        found = usual.with_stem(f"{usual.stem}-{number}")
    return found


def check(*paths: Path | None) -> None:
    """Refuse what cannot be written; nothing that is there is changed. None is skipped.

    Raises:
        FileError: the first that cannot.
    """
    for path in paths:
        if path is None:
            continue
        try:
            _try(path)
        except OSError as exc:
            raise FileError(f"{path} cannot be written: {exc.strerror}; name another file") from exc


def write(path: Path, text: str) -> str:
    """Write a file, or, where that fails by now, somewhere else: the work is not lost.

    Returns:
        Where the text is, for people.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        return _saved(path, text, f"{path} cannot be written: {exc.strerror}")
    return str(path)


def _try(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A device or a pipe: to open it may wait, and whoever reads it would see its end.
        if not os.access(path, os.W_OK):
            raise PermissionError(None, "Permission denied")
        return
    was_there = path.exists()
    with path.open("ab"):
        pass
    if not was_there:
        path.unlink()


def _saved(path: Path, text: str, why: str) -> str:
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix=f"{path.stem}-", suffix=path.suffix, delete=False
        ) as elsewhere:
            elsewhere.write(text)
    except OSError:
        sys.stdout.write(f"{text}\n")
        return f"above ({why}, nor can a temporary one)"
    return f"{elsewhere.name} ({why})"
