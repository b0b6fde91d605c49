"""A packager's machine: no network, the sdist, and the build's requirements already installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(240)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Loopback is down in a new network namespace; SIOCSIFFLAGS with IFF_UP, from <linux/sockios.h>.
_LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def offline() -> list[str | Path]:
    """The words that run a command in a network namespace of its own, as root or not."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = ["unshare", *user, "--net"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no network namespace can be made here: {probe.stderr.strip()}")
    return [*unshare, sys.executable, "-c", _LOOPBACK_UP]


def test_the_sdist_builds_and_serves_without_a_network(
    offline: list[str | Path], run: Run, sdist: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    run(
        *(*offline, sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"),
        *("--no-build-isolation", "--no-cache-dir", "--target", site, sdist),
        env={"MUXCORE_BUILD": "native"},
    )
    said = run(
        *(*offline, sys.executable, "-P", "-m", "muxcore", "engines"),
        env={"PYTHONPATH": str(site)},
        cwd=tmp_path,
    )
    assert "native-epoll" in said.stdout


# What a builder's machine may be like, as the words of a shell that sets it up for what follows.
_CONDITIONS = {
    "no-network": "exec",
    "no-ipv6": "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; exec",
    "1024-descriptors": "ulimit -n 1024; exec",
    "not-root": "exec setpriv --reuid=65534 --regid=65534 --clear-groups",
}


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("condition", _CONDITIONS)
def test_the_tests_pass_on_a_builder_with(
    condition: str, offline: list[str | Path], run: Run, unpack: Callable[[Path], Path]
) -> None:
    as_builder = [*offline, "bash", "-c", f'{_CONDITIONS[condition]} "$@"', "bash", sys.executable]
    trial = "import subprocess, sys, pytest; subprocess.run([sys.executable, '-V'], check=True)"
    probe = subprocess.run([*as_builder, "-c", trial], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"cannot be set up here: {probe.stderr.strip().splitlines()[-1]}")
    # pytest's own temporary folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        source = unpack(Path(folder))
        run(*offline, sys.executable, "setup.py", "build_ext", "--inplace", cwd=source)
        run("chmod", "-R", "a+rwX", folder)
        run(
            *(*as_builder, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-n", "3", "--dist", "worksteal"),
            cwd=source,
            env={"PYTHONPATH": str(source), "HOME": folder},
            timeout=800,
        )
