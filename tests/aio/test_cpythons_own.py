"""CPython's own tests of asyncio's servers, with servers of ours: asyncio is the oracle.

What fails on stock asyncio, in this Python on this machine, does not count.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import muxcore

GUESTS = [i.name for i in muxcore.engines() if i.available and "guest" in i.capabilities]
HERE = Path(__file__).with_name("cpython")

QUICK = ["test_server", "test_streams"]
ALL = [
    *QUICK,
    "test_buffered_proto",
    "test_unix_events",
    "test_base_events",
    "test_events",
    "test_sendfile",
    "test_ssl",
    "test_sslproto",
]
_SECONDS = 300  # that one module may take; the longest takes 5


def expected(engine: str) -> dict[str, bool]:
    """Return the cases that are to fail here, and whether each of them always does."""
    found = {}
    for line in (HERE / "differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"(\S+)(?: \[(.+)\])?: .+", line)
            assert match, f"this is no line of differences.txt: {line!r}"
            words = set((match[2] or "").split())
            if all(_holds(word, engine) for word in words - {"sometimes"}):
                found[match[1]] = "sometimes" not in words
    return found


def _holds(word: str, engine: str) -> bool:
    """Whether "3.12", "3.13+" or "pure-epoll" is said of here."""
    if not word[0].isdigit():
        return word == engine
    version = tuple(map(int, word.rstrip("+").split(".")))
    return (
        sys.version_info[:2] >= version if word.endswith("+") else sys.version_info[:2] == version
    )


def results(kind: str, module: str, engine: str) -> dict[str, dict[str, Any]]:
    """Run a module's cases that make a server, with stock asyncio or with ours."""
    done = subprocess.run(
        [sys.executable, HERE / "run_cases.py", kind, module],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env=os.environ | {"MUXCORE_ENGINE": engine},
    )
    assert done.returncode == 0, done.stderr
    return {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}


def compared(module: str, engine: str) -> None:
    """Run a module both ways, print the table, and hold it against the list."""
    missing = "this Python has no test.test_asyncio (Debian: libpython3-testsuite)"
    pytest.importorskip("test.test_asyncio", reason=missing)
    stock, ours = results("stock", module, engine), results("ours", module, engine)
    assert list(stock) == list(ours)
    counted = [case for case, line in stock.items() if line["result"] == "passed"]
    failed = {case: ours[case]["why"] for case in counted if ours[case]["result"] != "passed"}
    served = sum(ours[case]["served"] for case in counted)
    print(
        f"{module} on {engine}: {len(stock)} cases make a server, {len(counted)} pass on stock "
        f"asyncio; with ours, which serve in {served}, {len(counted) - len(failed)} pass"
    )
    for case, why in failed.items():
        print(f"  {case}: {why}")
    assert served, "no server of ours has served: this proves nothing"
    meant = {case: always for case, always in expected(engine).items() if case in counted}
    assert set(failed) <= set(meant), "these are not listed"
    assert {case for case, always in meant.items() if always} <= set(failed), "these pass"


@pytest.mark.parametrize("engine", GUESTS[:1])
@pytest.mark.parametrize("module", QUICK)
def test_quick_ones_pass_but_for_what_is_listed(module: str, engine: str) -> None:
    compared(module, engine)


@pytest.mark.deep
@pytest.mark.timeout(3 * _SECONDS)
@pytest.mark.parametrize("engine", GUESTS)
@pytest.mark.parametrize("module", ALL)
def test_all_pass_but_for_what_is_listed(module: str, engine: str) -> None:
    compared(module, engine)


def test_every_difference_that_is_listed_is_of_a_module_that_is_run() -> None:
    for engine in GUESTS:
        assert {case.partition(".")[0] for case in expected(engine)} <= set(ALL)
