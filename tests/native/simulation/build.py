"""Compile the simulation: the core of ``csrc/`` on a kernel of our own, or on the real one.

    python3 -m tests.native.simulation.build FOLDER [--sanitize address,undefined] [--real] [--fuzz]

The core's sizes are made small, so that a run of a millisecond meets full batches, full tables and
lists that go round. That, like a planted fault, is a change of the text of a copy.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror"

Change = tuple[str, str, str]
"""A file of the core, text that stands there once, what stands there instead."""

# The name of each #define, and what it is here: the least with which all still has its meaning.
SMALL = {
    "batch.h": {
        "MUX_EVENTS": "16",
        "MUX_ARENA": "3000",
        "MUX_ARENA_LEAST": "200",  # an address fits in
    },
    "loop_internal.h": {"MUX_SCRATCH": "1024", "MUX_EXPIRIES": "3"},
    "backend_epoll.h": {"EVENTS": "5"},
    "backend_epoll.c": {"STALE_MAX": "6"},
    "epoll_ready.c": {"PARTS": "2", "SENDS": "2"},
    "sendq.c": {"CHUNK": "(300 - sizeof(mux_chunk))", "POOLED": "3"},
    "slots.h": {"MUX_BLOCK_BITS": "3"},
}

_OWN = ("world_real.c", "fuzz.c", "main.c")
_SIMULATED = ("kernel.c", "kernel_calls.c", "kernel_ends.c", "kernel_epoll.c")


def small(name: str, text: str) -> str:
    """Return a file of the core with small sizes."""
    for define, value in SMALL.get(name, {}).items():
        text, count = re.subn(rf"(?m)^#define {define} .*$", f"#define {define} {value}", text)
        if count != 1:
            raise ValueError(f"{name} defines {define} {count} times: mend SMALL in {__file__}")
    return text


def changed(name: str, text: str, changes: Iterable[Change]) -> str:
    """Return a file of the core with the changes that concern it."""
    for file, old, new in changes:
        if file == name:
            if text.count(old) != 1:
                raise ValueError(f"{name} has {text.count(old)} times: {old!r}")
            text = text.replace(old, new)
    return text


def core(changes: tuple[Change, ...] = ()) -> dict[str, str]:
    """Return the files of the core by name, with small sizes, and changed.

    Raises:
        ValueError: a change does not find its file, or its text.
    """
    for file, _, _ in changes:
        if not (CSRC / file).exists():
            raise ValueError(f"there is no csrc/{file}")
    return {
        path.name: changed(path.name, small(path.name, path.read_text()), changes)
        for path in sorted(CSRC.glob("*.[ch]"))
        if not path.name.startswith("_")
    }


class Builder:
    """Compiles into a folder; what several programs share is compiled once.

    Args:
        folder: where to; it is made.
        sanitize: what goes into ``-fsanitize=``; empty: none, and optimized.
    """

    def __init__(self, folder: Path, sanitize: str = "") -> None:
        self._folder = folder
        self._compiler = shlex.split(os.environ.get("CC", "cc"))
        self._flags = ["-std=c11", "-g", "-pthread", *WARNINGS.split()]
        if sanitize:
            self._flags += ["-O1", f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
            self._flags += ["-fno-sanitize-recover=all"]
        else:
            self._flags += ["-O2"]
        self._objects: dict[tuple[str, str], Path] = {}  # by its name and text

    def program(
        self, *, real: bool = False, fuzz: bool = False, changes: tuple[Change, ...] = ()
    ) -> Path:
        """Compile and link a program; return where it is.

        Args:
            real: on the real kernel.
            fuzz: for libFuzzer: scripts come from its bytes.
            changes: of the core.

        Raises:
            subprocess.CalledProcessError: the compiler complained.
            ValueError: a change does not find its text.
        """
        name = "fuzz" if fuzz else "real" if real else "simulate"
        if changes:
            name += f"-{abs(hash(changes)):x}"
        folder = self._folder / f"{name}.core"
        folder.mkdir(parents=True, exist_ok=True)
        texts = core(changes)
        for file, text in texts.items():
            (folder / file).write_text(text)
        headers = "".join(text for file, text in texts.items() if file.endswith(".h"))
        left_out = {*_OWN, *(_SIMULATED if real else ())}
        own = [path for path in sorted(HERE.glob("*.c")) if path.name not in left_out]
        own.append(HERE / ("fuzz.c" if fuzz else "main.c"))
        if real:
            own.append(HERE / "world_real.c")
        units = [path for path in sorted(folder.glob("*.c")) if real or path.name != "syscalls.c"]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(
                pool.map(lambda path: self._compiled(path, folder, headers), own + units)
            )
        target = self._folder / name
        self._run("-o", target, *objects, *(["-fsanitize=fuzzer"] if fuzz else []))
        return target

    def _compiled(self, source: Path, folder: Path, headers: str) -> Path:
        key = source.name, f"{hash((headers, source.read_text())):x}"
        if key not in self._objects:
            target = self._folder / f"{source.stem}{key[1]}.o"
            self._run(f"-I{folder}", f"-I{HERE}", "-c", source, "-o", target)
            self._objects[key] = target
        return self._objects[key]

    def _run(self, *words: object) -> None:
        command = [*self._compiler, *self._flags, *map(str, words)]
        subprocess.run(command, check=True, timeout=300)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--fuzz", action="store_true")
    asked = parser.parse_args()
    print(Builder(asked.folder, asked.sanitize).program(real=asked.real, fuzz=asked.fuzz))


if __name__ == "__main__":
    main()
