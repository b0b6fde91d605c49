"""What others would write: an echo on plain asyncio, on plain uvloop, and in C on bare epoll.

Each is a program of its own that knows nothing of muxcore. It takes its port, 0 for a free one,
prints ``listening on HOST:PORT`` first and ends on SIGTERM. (On asyncio both loops run one file:
what differs between the two rows is the loop.)
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from muxcore.compare.servers import Subject

HERE = Path(__file__).resolve().parent
ASYNCIO, UVLOOP, FLOOR = "plain asyncio", "plain uvloop", "C floor"
FRESH = "plain asyncio, fresh"
NAMES = {"asyncio": ASYNCIO, "uvloop": UVLOOP, "floor": FLOOR}  # as the command line has them


def missing(name: str) -> str:
    """Return why a peer cannot run here, and what to do; "" where it can.

    Args:
        name: one of ``NAMES``.
    """
    if name == "uvloop" and importlib.util.find_spec("uvloop") is None:
        return "the package uvloop is not installed: pip install uvloop"
    if name == "floor" and not _compiler():
        return "there is no C compiler: install one, or name it in CC"
    return ""


def subject(name: str, folder: Path) -> Subject:
    """Return a peer; the C one is compiled as the core is: -O2, no flags of this machine.

    Args:
        name: one of ``NAMES``, which is not ``missing``.
        folder: where a compiled program is put.

    Raises:
        OSError, subprocess.CalledProcessError: it could not be compiled.
    """
    if name == "floor":
        return Subject(FLOOR, (str(compiled(HERE / "floor_echo.c", folder)), "0"))
    loop = ("uvloop",) if name == "uvloop" else ()
    return Subject(NAMES[name], (sys.executable, str(HERE / "asyncio_echo.py"), "0", *loop))


def compiled(source: Path, folder: Path) -> Path:
    """Compile a C program, unless this was done since it changed; return the program."""
    target = folder / source.stem
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        command = [*_compiler(), "-std=c11", "-O2", "-o", str(target), str(source)]
        subprocess.run(command, check=True)
    return target


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "cc"))
    return command if command and shutil.which(command[0]) else []
