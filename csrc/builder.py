"""Build ``muxcore.native._core`` from the units beside and below this file; setup.py calls it.

The declarations that Python sees stand in the ``.cdef`` files. CFFI's API mode compiles them
against the headers, so a declaration that does not match is a compile error; the module keeps to
the stable ABI wherever the interpreter has one, which CFFI knows.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent

# Paths relative to the root: setup.py runs there, and a build holds no path of its machine.
_SOURCES = sorted(
    str(path.relative_to(_ROOT)) for path in _HERE.rglob("*.c") if not path.name.startswith("_")
)
_HEADERS = ("loop.h", "mover.h", "load.h", "load_reply.h")

ffibuilder = FFI()
for _cdef in sorted(_HERE.rglob("*.cdef")):
    ffibuilder.cdef(_cdef.read_text(encoding="utf-8"))
ffibuilder.set_source(
    "muxcore.native._core",
    "\n".join(f'#include "{header}"' for header in _HEADERS),
    sources=_SOURCES,
    depends=sorted(str(path.relative_to(_ROOT)) for path in _HERE.rglob("*.h")),
    include_dirs=[_HERE.name, f"{_HERE.name}/load"],
    extra_compile_args=["-std=c11", "-fvisibility=hidden", "-pthread"]
    + (["-Werror"] if os.environ.get("MUXCORE_WERROR") else []),
)
