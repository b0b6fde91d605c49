"""A server is charged for all it uses: its threads, its children, and those that have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muxcore.compare import accounting

_BURN = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass\n"


@contextmanager
def script(text: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script that prints a line and waits until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_the_time_of_a_child_that_has_ended_is_counted() -> None:
    text = (
        "import os, sys\npid = os.fork()\nif not pid:\n"
        + "".join(f"    {line}\n" for line in _BURN.splitlines())
        + "    os._exit(0)\nos.waitpid(pid, 0)\nprint(flush=True)\nsys.stdin.read()"
    )
    with script(text) as process:
        assert accounting.cpu_ns(process.pid) >= 190e6


def test_the_time_of_a_living_child_is_counted() -> None:
    text = (
        "import os, sys\npid = os.fork()\nif not pid:\n"
        + "".join(f"    {line}\n" for line in _BURN.splitlines())
        + "    print(flush=True)\n    sys.stdin.read()\n    os._exit(0)\nos.waitpid(pid, 0)"
    )
    with script(text) as process:
        assert len(accounting.descendants(process.pid)) == 2
        assert accounting.cpu_ns(process.pid) >= 200e6


def test_the_time_of_a_thread_is_counted() -> None:
    text = (
        f"import sys, threading\ndef burn():\n    exec({_BURN!r}, {{}})\n"
        "thread = threading.Thread(target=burn)\nthread.start()\nthread.join()\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    with script(text) as process:
        assert accounting.cpu_ns(process.pid) >= 200e6


def test_memory_grows_with_what_is_touched() -> None:
    text = "import sys\n{}print(flush=True)\nsys.stdin.read()"
    with (
        script(text.format("")) as small,
        script(text.format("kept = b'x' * (32 << 20)\n")) as large,
    ):
        grown = accounting.memory(large.pid) - accounting.memory(small.pid)
    assert 30 << 20 < grown < 36 << 20


def test_a_process_that_is_gone_costs_nothing_more() -> None:
    with script("print(flush=True)") as process:
        pass
    assert accounting.cpu_ns(process.pid) == 0
    assert accounting.memory(process.pid) == 0


def test_the_time_that_others_had_is_read_for_the_cores_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["cpu  9 9 9 9 9 9 9 99 0 0", "cpu0 9 9 9 9 9 9 9 20 0 0", "cpu1 9 9 9 9 9 9 9 3 0 0"]
    lines += ["cpu10 9 9 9 9 9 9 9 70 0 0", "intr 1 2 3 4 5 6 7 8 9", "ctxt 7", ""]
    monkeypatch.setattr(Path, "read_text", lambda path: "\n".join(lines))
    second = 1_000_000_000 / os.sysconf("SC_CLK_TCK")
    assert accounting.stolen_ns([0, 1]) == 23 * second
    assert accounting.stolen_ns([7]) == 0


def test_the_time_that_others_had_never_shrinks() -> None:
    first = accounting.stolen_ns(os.sched_getaffinity(0))
    assert 0 <= first <= accounting.stolen_ns(os.sched_getaffinity(0))
