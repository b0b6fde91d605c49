"""A supervisor, and what is its service."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .supervisor import Supervisor


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, with a path that fits into a unix address."""
    path = Path(tempfile.mkdtemp(prefix="mux"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def supervisor(folder: Path) -> Iterator[Supervisor]:
    made = Supervisor(folder)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be a service himself."""
    for name in list(os.environ):
        if name.startswith(("LISTEN_", "WATCHDOG_")) or name == "NOTIFY_SOCKET":
            monkeypatch.delenv(name)
