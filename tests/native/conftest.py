"""Compile the C test programs, once a session; skip what needs the core where it is not built."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    sources = [path for path in CSRC.glob("*.c") if not path.name.startswith(("_", "load"))]
    with tempfile.TemporaryDirectory(prefix="muxcore-native-") as folder:

        @functools.cache
        def compiled(unit: str) -> Path:
            target = Path(folder, unit)
            command = [*compiler, *flags, f"-I{CSRC}", f"-I{HERE}", "-o", str(target)]
            files = [HERE / f"{unit}.c", HERE / "memory_backend.c", *sources]
            subprocess.run([*command, *map(str, files)], check=True, timeout=120)
            return target

        yield compiled
