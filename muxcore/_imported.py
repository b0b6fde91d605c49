"""What somebody names by ``MODULE:NAME``, on the command line or in a file."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from muxcore._near import near
from muxcore.errors import ServiceError


def imported(what: str, name: str) -> Any:
    """Import something by ``MODULE:NAME``; the current folder is looked at first.

    Args:
        what: it is, for errors: "service".
        name: it.

    Raises:
        ServiceError: the form, the module or the name is wrong; the message says which.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ServiceError(f"{what} {name!r}: write MODULE:NAME, as in 'myapp:Upper'")
    if module.endswith(".py") or "/" in module:
        meant = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise ServiceError(
            f"{what} {name!r}: {module!r} is a file: write the module's name, as in "
            f"'{meant}:{attribute}'"
        )
    found = _module(f"{what} {name!r}", module)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ServiceError(f"{what} {name!r}: {_missing(found, part)}") from None
    return found


def _module(what: str, name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:  # one that ends what imports it would end a server
        top = name.partition(".")[0]
        if isinstance(exc, ModuleNotFoundError) and exc.name == top:
            meant = near(top, [path.stem for path in Path(here).glob("*.py")])
            raise ServiceError(
                f"{what}: no module {top!r} is in {here} or installed{meant}"
            ) from None
        raise ServiceError(f"{what}: cannot import {name!r} ({type(exc).__name__}: {exc})") from exc


def _missing(owner: Any, name: str) -> str:
    where = getattr(owner, "__file__", None) or getattr(owner, "__qualname__", repr(owner))
    meant = near(name, [each for each in dir(owner) if not each.startswith("_")])
    return f"{where} has no {name!r}{meant}"
