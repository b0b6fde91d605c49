"""nginx's own tests of its stream module, with ``muxcore relay`` in nginx's place.

They are not here: ``MUXCORE_NGINX_TESTS`` names a folder with github.com/nginx/nginx-tests. What a
configuration has that does not relay stays the real nginx's. What fails with nginx alone, in this
version on this machine, does not count.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .nginx_suite.running import SECONDS, Expected, Result, expected, run
from .programs import find

pytestmark = [pytest.mark.real, pytest.mark.timeout(3 * SECONDS)]

_ROOT = Path(__file__).parents[2]
_DIFFERENCES = Path(__file__).with_name("nginx_suite") / "differences.txt"
_FOLDER = os.environ.get("MUXCORE_NGINX_TESTS", "")
_WITHOUT = pytest.mark.skip(
    reason="MUXCORE_NGINX_TESTS names no folder with nginx's tests (github.com/nginx/nginx-tests)"
)
_NAMES = ("stream_*.t", "worker_shutdown_timeout_stream.t")
_FOUND = sorted(each for name in _NAMES for each in Path(_FOLDER).resolve().glob(name) if _FOLDER)
_TESTS = [pytest.param(each, id=each.name) for each in _FOUND]
_TESTS = _TESTS or [pytest.param(Path(), id="none", marks=_WITHOUT)]


def said_of(test: str) -> Expected:
    return expected(_DIFFERENCES.read_text(), test)


@pytest.fixture
def suite() -> Iterator[Callable[[Path, str], Result]]:
    """Run one of them with "muxcore" in nginx's place, or with "nginx" itself."""
    nginx = find("nginx")
    find("perl")
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--modules-path=(\S+)", built)
    modules = Path(found[1] if found else "/usr/lib/nginx/modules")
    if "--with-stream=dynamic" in built and not (modules / "ngx_stream_module.so").exists():
        pytest.skip("nginx has no stream module (Debian and Ubuntu: libnginx-mod-stream)")
    module = f"{sys.executable} -m tests.real.nginx_suite.binary"
    environment = {
        "PYTHONPATH": str(_ROOT),
        "MUXCORE_REAL_NGINX": nginx,
        "TEST_NGINX_MODULES": str(modules),
        # its workers would not be let into the tests' folders
        "TEST_NGINX_GLOBALS": "user root;\n" if os.geteuid() == 0 else "",
    }

    def in_place(test: Path, who: str) -> Result:
        folder = short / who
        folder.mkdir()
        program = folder / "nginx"
        program.write_text(f'#!/bin/sh\nexec {module} --as {who} "$@"\n')
        program.chmod(0o755)
        return run(test, program, environment, folder)

    with tempfile.TemporaryDirectory() as name:  # unix sockets have short paths
        short = Path(name)
        yield in_place


@pytest.mark.parametrize("test", _TESTS)
def test_it_passes_but_for_what_is_listed(test: Path, suite: Callable[[Path, str], Result]) -> None:
    listed = said_of(test.name)
    if listed.not_run:
        pytest.skip(listed.not_run)
    result = suite(test, "muxcore")
    if result.skipped and not result.refused:
        pytest.skip(result.skipped)
    assert bool(result.refused) == listed.refused, result.refused or "it starts, and is listed"
    if listed.refused:
        return
    new = result.failed - listed.fail - listed.may_fail
    if new:
        new -= suite(test, "nginx").failed
    assert not new, result.said
    assert result.failed >= listed.fail, "these pass, and are listed"


def test_the_list_of_differences_can_be_read() -> None:
    assert said_of("stream_proxy.t") == Expected()
    assert said_of("stream_proxy_bind.t").refused
    assert said_of("stream_limit_rate.t").fail == {6, 8}
    assert said_of("stream_udp_proxy.t").not_run == "UDP"
