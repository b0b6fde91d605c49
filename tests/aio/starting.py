"""A program of a test's own, which ends with the test, whatever becomes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(text: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python's ``text`` in the root of the tests; its output is a pipe."""
    command, root = [sys.executable, "-c", text], Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as program:
        try:
            yield program
        finally:
            program.kill()  # else Popen waits for its end
