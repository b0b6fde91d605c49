"""Compile the C test programs, once a session; skip what needs the core where it is not built."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
# what warns here is an error: these are our files and this is the compiler of a developer
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror"


@pytest.fixture(scope="session")
def program() -> Iterator[Callable[[str], Path]]:
    """Return a function from a unit's name to its compiled program.

    ``MUXCORE_SANITIZE`` holds what goes into ``-fsanitize=``; none by default.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no C compiler ({compiler[0]!r} is not installed)")
    sanitize = os.environ.get("MUXCORE_SANITIZE", "")
    flags = ["-std=c11", "-O1", "-g", "-pthread", "-DMUX_FAULTS", *WARNINGS.split()]
    flags += [f"-I{folder}" for folder in (CSRC, CSRC / "load", HERE)]
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    sources = [path for path in CSRC.rglob("*.c") if not path.name.startswith("_")]
    with tempfile.TemporaryDirectory(prefix="muxcore-native-") as folder:

        def compile_to(target: Path, *what: object) -> Path:
            command = [
                *compiler,
                *flags,
                f"-I{CSRC}",
                f"-I{CSRC / 'load'}",
                f"-I{HERE}",
                "-o",
                target,
                *what,
            ]
            subprocess.run([str(word) for word in command], check=True, timeout=120)
            return target

        @functools.cache
        def core() -> list[Path]:
            """Compile what the programs share, once, on as many cores as there are."""
            files = [HERE / "memory_backend.c", *sources]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(
                    pool.map(
                        lambda file: compile_to(Path(folder, file.stem + ".o"), "-c", file), files
                    )
                )

        @functools.cache
        def compiled(unit: str) -> Path:
            return compile_to(Path(folder, unit), HERE / f"{unit}.c", *core())

        yield compiled
