"""What starts a program that serves, and says what it is; whoever came of it ends with the test."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muxcore.testing.proc import children
from tests.restarting.service import PROGRAM, Service

_PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>


@pytest.fixture
def tell(tmp_path: Path) -> Callable[..., None]:
    """What says how the program is to serve, from its next start on."""

    def tell(
        version: str = "one",
        where: tuple[str, ...] = ("127.0.0.1:0",),
        limits: dict[str, Any] | None = None,
        fails: str = "",
        **options: Any,
    ) -> None:
        told = {
            "version": version,
            "where": where,
            "fails": fails,
            "limits": limits or {},
            "options": options,
        }
        (tmp_path / "new").write_text(json.dumps(told))
        (tmp_path / "new").rename(tmp_path / "told.json")

    return tell


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """What starts a program: the usual one, or another; whoever came of it ends with the test."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(children(os.getpid()))
    (tmp_path / "program.py").write_text(PROGRAM)
    started: list[Service] = []

    def start(*arguments: str, program: str = "", within: tuple[str, ...] = ()) -> Service:
        if program:
            (tmp_path / "program.py").write_text(program)
        command = [*within, sys.executable, *(arguments or ("program.py",))]
        started.append(Service(tmp_path, command))
        started[-1].serves()
        return started[-1]

    yield start
    while (
        left := set(children(os.getpid())) - before
    ):  # as one ends, those that it started are ours
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    for each in started:
        each.process.communicate()
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
