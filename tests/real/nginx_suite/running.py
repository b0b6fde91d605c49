"""One of nginx-tests' files, run with a program in nginx's place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from .binary import SLOW

SECONDS = 60.0  # that a file may take; the longest takes 12 with nginx
_TRIES = 3  # of a start
_LINE = re.compile(r"(\S+) (all|not run|(?:\d+ )*\d+(?: sometimes)?): (\S.*)")
_RESULT = re.compile(r"^(not )?ok (\d+)\b(?:.*# (TODO|SKIP|skip)\b)?", re.MULTILINE)
_PLAN = re.compile(r"^1\.\.(\d+)(?: # SKIP (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Expected:
    """What is expected of a file.

    Attributes:
        fail: the numbers of what fails.
        may_fail: of what does so sometimes.
        refused: the program is not to start.
        not_run: why it is not run at all; "": it is.
    """

    fail: frozenset[int] = frozenset()
    may_fail: frozenset[int] = frozenset()
    refused: bool = False
    not_run: str = ""


@dataclass(frozen=True)
class Result:
    """What became of a file.

    Attributes:
        failed: the numbers of what failed, or was planned and did not come.
        skipped: why it skipped itself; "": it did not.
        refused: why the program did not start, or did not end well; "": it did.
        said: all that was printed.
    """

    failed: frozenset[int]
    skipped: str
    refused: str
    said: str

    @property
    def slow(self) -> bool:
        """Whether the program did not start in the time that the tests wait for it."""
        return SLOW in self.refused or (not self.refused and "Can't start nginx" in self.said)


def expected(differences: str, test: str) -> Expected:
    """Return what a list of differences says of a file.

    Raises:
        ValueError: a line is none.
    """
    fail: set[int] = set()
    may_fail: set[int] = set()
    refused, not_run = False, ""
    for line in differences.splitlines():
        if not line or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line)) is None:
            raise ValueError(f"this is no line of the differences: {line!r}")
        if not fnmatch(test, found[1]):
            continue
        if found[2] == "not run":
            not_run = found[3]
        elif found[2] == "all":
            refused = True
        else:
            numbers = found[2].removesuffix(" sometimes")
            (may_fail if numbers != found[2] else fail).update(map(int, numbers.split()))
    return Expected(frozenset(fail), frozenset(may_fail), refused, not_run)


def run(test: Path, program: Path, environment: Mapping[str, str], folder: Path) -> Result:
    """Run a file; again, where the machine was too busy for the start that it waits for.

    Args:
        test: it.
        program: what stands for nginx.
        environment: variables beside those of this process.
        folder: for what it leaves.

    Raises:
        TimeoutError: it takes more than ``SECONDS``; it is ended then, with all that it started.
    """
    for _ in range(_TRIES - 1):
        result = _run_once(test, program, environment, folder)
        if not result.slow:
            return result
    return _run_once(test, program, environment, folder)


def _run_once(test: Path, program: Path, environment: Mapping[str, str], folder: Path) -> Result:
    refused = folder / "refused"
    refused.unlink(missing_ok=True)
    ours = {"TEST_NGINX_BINARY": str(program), "MUXCORE_REFUSED": str(refused)}
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            ["perl", str(test)],
            cwd=test.parent,
            env={**os.environ, **environment, **ours, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{test.name} takes more than {SECONDS:g} s") from None
        finally:
            _end(process.pid)
            process.wait()
        output.seek(0)
        said = output.read()
    return _result(said, refused.read_text().strip() if refused.exists() else "")


def _end(group: int) -> None:
    """End what a file has started and left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _result(said: str, refused: str) -> Result:
    results = {int(number): not no or mark == "TODO" for no, number, mark in _RESULT.findall(said)}
    plan = _PLAN.search(said)
    planned = int(plan[1]) if plan is not None else 0
    skipped = plan[2] or "" if plan is not None else ""
    failed = {n for n in range(1, max([planned, *results]) + 1) if not results.get(n, False)}
    return Result(frozenset(failed), skipped, refused, said)
