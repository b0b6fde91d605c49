"""What a worker is to do, as another process can be told it: pickled, so by names where it has any.

A class or a function crosses as its name, and is imported there. What the main module defines is
there, too, as multiprocessing has it: that file is run in the worker under the name
``__mp_main__``, so that what stands under ``if __name__ == "__main__"`` is left out.
"""

from __future__ import annotations

import os
import pickle
import runpy
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from muxcore.errors import ServiceError
from muxcore.parts import dispatch

_MAIN = "__mp_main__"

is_preparing = False
"""Whether the main module is being run for what it defines: nothing is to be served in there."""


@dataclass
class Task:
    """What a worker runs.

    Attributes:
        make: called with a mapping of listening sockets to services, and the options; returns a
            server.
        services: what is served; each once.
        options: of ``make``.
        first: called before it, where there is one.
    """

    make: Callable[..., Any]
    services: Sequence[Any]
    options: dict[str, Any] = field(default_factory=dict)
    first: Callable[[], object] | None = None


def packed(task: Task) -> bytes:
    """Return a task as bytes.

    Raises:
        ServiceError: it has no name that can be imported, and cannot be pickled.
    """
    name = ", ".join(map(dispatch.describe, task.services))
    advice = (
        "each worker is a process of its own: define it at the top of a module, from where it is "
        "imported there, or let its objects be pickled"
    )
    try:
        body = pickle.dumps(task)
    except Exception as exc:
        raise ServiceError(f"workers cannot be told of service {name} ({exc}): {advice}") from exc
    if b"__main__" not in body and _MAIN.encode() not in body:
        return pickle.dumps(("", "", body))
    where = _main_module()
    if where is None:
        raise ServiceError(
            f"workers cannot import service {name} from a main module without a file: {advice}"
        )
    return pickle.dumps((*where, body))


def unpacked(data: bytes) -> Task:
    """Return the task; whatever it names is imported.

    Raises:
        BaseException: an import fails.
    """
    name, path, body = pickle.loads(data)
    if name or path:
        _run_main(name, path)
    task = pickle.loads(body)
    assert isinstance(task, Task)
    return task


def file_of(data: bytes) -> IO[bytes]:
    """Return a file without a name, for other processes to read."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.flush()
    return file


def contents(descriptor: int) -> bytes:
    """Return what is in a file that several processes have open, and close it."""
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _main_module() -> tuple[str, str] | None:
    """Return the main module as (name, "") or ("", path)."""
    main = sys.modules["__main__"]
    where: tuple[str, str] | None = getattr(main, "__muxcore_main__", None)
    if where is not None:  # this process was told itself
        return where
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name), ""
    path = getattr(main, "__file__", None)
    return ("", os.path.abspath(path)) if path and Path(path).exists() else None


def _run_main(name: str, path: str) -> None:
    """Run the main module for what it defines."""
    global is_preparing
    module = types.ModuleType(_MAIN)
    is_preparing = True
    try:
        if name:
            content = runpy.run_module(name, run_name=_MAIN, alter_sys=True)
        else:
            content = runpy.run_path(path, run_name=_MAIN)
    finally:
        is_preparing = False
    module.__dict__.update(content)
    module.__dict__["__muxcore_main__"] = (name, path)
    sys.modules["__main__"] = sys.modules[_MAIN] = module


def refuse_preparing() -> None:
    """Refuse to serve while the main module is run for what it defines.

    Raises:
        RuntimeError: it is; the text says what to do.
    """
    if is_preparing:
        raise RuntimeError(
            "this is a worker, which runs the main module for what it defines: let the program "
            'serve under `if __name__ == "__main__":`'
        )
