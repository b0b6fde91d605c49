"""Compile the C test programs, once a session; skip what needs the core where it is not built."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
# what warns here is an error: these are our files and this is the compiler of a developer
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror"


@pytest.fixture(scope="session")
def program() -> Iterator[Callable[..., Path]]:
    """Return a function from a unit's name, a scripted backend's, and a fault, to the program.

    A fault is the name of a C file, text that stands there once, and what stands there instead.

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
            command = [*compiler, *flags, "-o", target, *what]
            subprocess.run([str(word) for word in command], check=True, timeout=120)
            return target

        def objects(files: Iterable[Path]) -> list[Path]:
            """Compile on as many cores as there are."""
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(
                    pool.map(
                        lambda file: compile_to(Path(folder, file.stem + ".o"), "-c", file), files
                    )
                )

        @functools.cache
        def core() -> list[Path]:
            return objects(sources)

        @functools.cache
        def scripted() -> list[Path]:
            return objects([HERE / "scripted_peers.c", *HERE.glob("*_backend.c")])

        @functools.cache
        def own(unit: str) -> list[Path]:
            return objects([HERE / f"{unit}.c"])

        @functools.cache
        def with_fault(file: str, old: str, new: str) -> list[Path]:
            text = (CSRC / file).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old!r}"
            changed = Path(folder, "faulty", file)
            changed.parent.mkdir(exist_ok=True)
            changed.write_text(text.replace(old, new), encoding="utf-8")
            name = f"faulty{abs(hash((file, old))):x}.o"
            planted = compile_to(Path(folder, name), "-c", changed)
            return [planted if each.stem == changed.stem else each for each in core()]

        @functools.cache
        def compiled(
            unit: str, backend: str = "", fault: tuple[str, str, str] | None = None
        ) -> Path:
            linked = with_fault(*fault) if fault else core()
            if backend:
                peers, *backends = scripted()
                linked = [*linked, peers]
                linked += [each for each in backends if each.stem == f"{backend}_backend"]
            name = f"{unit}-{backend}-{abs(hash(fault)):x}"
            return compile_to(Path(folder, name), *own(unit), *linked)

        yield compiled
