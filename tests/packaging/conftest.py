"""What the packaging tests share: distributions under test, interpreters, empty environments."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)  # requires-python
_PROBE = "import sys; print(*sys.version_info[:2], sys.implementation.name, sys.abiflags or '-')"

collect_ignore = ["third_party"]  # a distribution of its own, whose tests run where it is installed

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "interpreter" in metafunc.fixturenames:
        found = dict(_interpreters())
        metafunc.parametrize("interpreter", found.values(), ids=found.keys())


def _interpreters() -> Iterator[tuple[str, Path]]:
    """Yield one interpreter for each CPython that muxcore supports and this machine has."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [Path(sys.executable)]
    if os.access(versions, os.R_OK | os.X_OK):
        candidates += sorted(versions.glob("*/bin/python"))
    names = [f"python3.{minor}{t}" for minor in range(11, 20) for t in ("", "t")]
    candidates += [Path(found) for found in map(shutil.which, names) if found]
    for candidate in candidates:
        probe = subprocess.run([candidate, "-c", _PROBE], capture_output=True, text=True)
        if probe.returncode:
            continue  # a shim of a version manager, for a version that is not chosen
        major, minor, implementation, flags = probe.stdout.split()
        if implementation == "cpython" and (int(major), int(minor)) >= OLDEST:
            yield f"{major}.{minor}{flags.strip('-')}", candidate


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def run() -> Run:
    return _run


def _run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    fails: bool = False,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run a command away from the source tree's modules, and show its words where it disappoints.

    Args:
        command: program and arguments.
        env: added to this environment; what could smuggle in the tree or a build mode is removed.
        cwd: the working directory.
        fails: whether it is expected to fail.
        timeout: in seconds.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MUXCORE_", "PYTHON"))}
    kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"  # tools call one another by name
    done = subprocess.run(
        [str(part) for part in command],
        env={**kept, **(env or {})},
        cwd=cwd,
        timeout=timeout,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if (done.returncode != 0) is not fails:
        pytest.fail(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
    return done


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the distributions under test: `make wheels` names it, else it is built."""
    where = os.environ.get("MUXCORE_DIST")
    if where:
        return Path(where)
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    _run(*build, env={"MUXCORE_BUILD": "native", "CFLAGS": "-g0"})
    (built,) = folder.glob("*.whl")
    _run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, built)
    built.unlink()
    return folder


@pytest.fixture(scope="session")
def sdist(dist: Path) -> Path:
    (found,) = dist.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """The wheel that was built for this machine's kind, for every CPython with the GIL."""
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def unpack(sdist: Path) -> Callable[[Path], Path]:
    """Unpack the sdist into a folder; return what a packager starts from."""

    def unpack(where: Path) -> Path:
        shutil.unpack_archive(sdist, where)
        return where / sdist.name.removesuffix(".tar.gz")

    return unpack


@pytest.fixture
def source(unpack: Callable[[Path], Path], tmp_path: Path) -> Path:
    return unpack(tmp_path / "source")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make an empty virtual environment; return its interpreter."""

    def make(interpreter: Path) -> Path:
        where = tmp_path_factory.mktemp("environment")
        _run(interpreter, "-m", "venv", where)
        return where / "bin" / "python"

    return make


@pytest.fixture(scope="session")
def installed(environment: Callable[[Path], Path], wheel: Path) -> Callable[[Path], Path]:
    """Return the interpreter of an environment that holds the wheel and what it asks for."""

    @functools.cache
    def install(interpreter: Path) -> Path:
        python = environment(interpreter)
        _run(python, "-m", "pip", "install", "--quiet", wheel)
        return python

    return install
