"""Decide whether the C core is built; all the rest of the build's description is in pyproject.toml.

``MUXCORE_BUILD`` says what is wanted:

* not set: the core on Linux, pure Python elsewhere;
* ``native``: the core, or the build fails;
* ``pure``: pure Python, a ``py3-none-any`` wheel.

There is no silent way from native to pure: a wheel without the core, where everybody expects it, is
found out by its users.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

INSTRUCTION = "install gcc and the python3 headers, or set MUXCORE_BUILD=pure"

# The first CPython whose stable ABI a wheel promises to keep to: with the GIL, that of
# requires-python; without it there is none before PEP 803, and 3.14t has a wheel of its own.
_STABLE_ABI = "cp311"
_STABLE_ABI_FREE_THREADED = "cp315"


def wanted() -> str:
    """Return "native" or "pure".

    Raises:
        SystemExit: MUXCORE_BUILD has another value, or demands what this system cannot have.
    """
    asked = os.environ.get("MUXCORE_BUILD", "")
    on_linux = sys.platform == "linux"
    if asked == "":
        return "native" if on_linux else "pure"
    if asked not in ("native", "pure"):
        raise SystemExit(
            f"muxcore: MUXCORE_BUILD is {asked!r}: set it to native or pure, or unset it"
        )
    if asked == "native" and not on_linux:
        raise SystemExit(
            f"muxcore: MUXCORE_BUILD=native needs Linux, this is {sys.platform}: unset it, "
            "and the pure engines are built"
        )
    return asked


def problem() -> str | None:
    """Return why the core cannot be compiled here, or None; a build without it has no problem."""
    if wanted() == "pure":
        return None
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]) is None:
        return f"there is no C compiler ({command[0]!r} is not installed)"
    flags = [f"-I{sysconfig.get_path('include')}", *shlex.split(os.environ.get("CFLAGS", ""))]
    for name, why in {"stdio.h": "works", "Python.h": "finds Python.h"}.items():
        text = f"#include <{name}>\n"
        trial = [*command, *flags, "-x", "c", "-fsyntax-only", "-"]
        if subprocess.run(trial, input=text, text=True, capture_output=True).returncode:
            return f"the C compiler {shlex.join(command)!r} is there, but not one that {why}"
    return None


class BuildCore(build_ext):
    """Compile the core; if that fails, end with one sentence that says what to do."""

    def build_extensions(self) -> None:
        # Some interpreters were linked with an rpath and hand it on to what is built with them;
        # a path of the machine that a wheel was built on has no place in it.
        linker = [flag for flag in self.compiler.linker_so if not flag.startswith("-Wl,-rpath")]
        self.compiler.set_executable("linker_so", linker)
        for extension in self.extensions:  # the same where debugging information is kept
            extension.extra_compile_args.append(f"-fdebug-prefix-map={os.getcwd()}=.")
        try:
            super().build_extensions()
        except (CompileError, LinkError) as exc:
            why = problem() or f"the C core does not build, see the compiler's words above ({exc})"
            raise SystemExit(f"muxcore: {why}: {INSTRUCTION}") from None


def stable_abi() -> str | None:
    """Return the python tag of a wheel of the stable ABI, or None where there is none.

    It has to say what cffi decides for the module itself: see ``cffi.setuptools_ext``.
    """
    if hasattr(sys, "gettotalrefcount"):  # a debug build of CPython
        return None
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return _STABLE_ABI
    return _STABLE_ABI_FREE_THREADED if sys.version_info >= (3, 15) else None


def options() -> dict[str, Any]:
    """Return what setup() is told of the core: nothing in a pure build."""
    if wanted() == "pure":
        return {}
    tag = stable_abi()
    return {
        "cffi_modules": ["csrc/builder.py:ffibuilder"],
        "cmdclass": {"build_ext": BuildCore},
        "options": {"bdist_wheel": {"py_limited_api": tag}} if tag else {},
    }


if __name__ == "__main__":  # the makefile asks problem() without building anything
    setup(**options())
