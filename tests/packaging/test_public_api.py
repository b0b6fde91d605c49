"""The public API, listed: whoever changes it has to say so in the list and in the change log.

``public_api.txt`` is what the package shows to its users: every public name, with the signatures of
what can be called, the fields of what is kept. What a module calls ``_EXPERIMENTAL`` is marked: see
docs/stability.md. After a change on purpose, write it anew:

    python tests/packaging/test_public_api.py
"""

from __future__ import annotations

import builtins
import dataclasses
import difflib
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from muxcore.testing import DEADLINE

_LISTED = Path(__file__).with_name("public_api.txt")
_MODULES = ("muxcore", "muxcore.admin", "muxcore.aio", "muxcore.parsers", "muxcore.testing")


def _described() -> str:
    lines: list[str] = []
    for module in _MODULES:
        loaded = importlib.import_module(module)
        lines += [line for name in sorted(loaded.__all__) for line in _member(loaded, name)]
    return "\n".join(lines) + "\n"


def _member(module: object, name: str) -> Iterator[str]:
    found = getattr(module, name)
    full = f"{module.__name__}.{name}"  # type: ignore[attr-defined]
    mark = "  # experimental" if name in getattr(module, "_EXPERIMENTAL", ()) else ""
    if not inspect.isclass(found):
        yield (f"{full}{_signature(found)}" if callable(found) else full) + mark
        return
    public = set(module.__all__) | set(dir(builtins)) - {"object"}  # type: ignore[attr-defined]
    bases = ", ".join(base.__name__ for base in found.__bases__ if base.__name__ in public)
    yield (f"class {full}({bases})" if bases else f"class {full}") + mark
    # What Python puts there (in enumerations, exceptions, typing.Protocol) is not our promise.
    ours = getattr(found.__init__, "__module__", "").startswith("muxcore")
    if ours and not dataclasses.is_dataclass(found):
        yield f"  {full}{_signature(found)}"
    for member, value in sorted(vars(found).items()):
        if member.startswith(("_", "test_")):  # what a suite tests may grow at any time
            continue
        if isinstance(value, property):
            yield f"  {full}.{member}: property"
        elif isinstance(value, (staticmethod, classmethod)) or inspect.isfunction(value):
            yield f"  {full}.{member}{_signature(getattr(found, member))}"
        elif not (dataclasses.is_dataclass(found) or inspect.ismemberdescriptor(value)):
            yield f"  {full}.{member}"
    if dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            yield f"  {full}.{field.name}: {field.type}{_default(field)}"


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    return " = ..." if field.default_factory is not dataclasses.MISSING else ""


def _signature(found: object) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(found)))  # type: ignore[arg-type]
    return text.replace(f"'float' = {DEADLINE}", "'float' = DEADLINE")  # the environment may set it


def test_what_is_experimental_is_public() -> None:
    for module in map(importlib.import_module, _MODULES):
        assert set(getattr(module, "_EXPERIMENTAL", ())) <= set(module.__all__)


def test_the_public_api_is_the_one_that_is_listed() -> None:
    difference = "\n".join(
        difflib.unified_diff(
            _LISTED.read_text().splitlines(), _described().splitlines(), "listed", "found", n=0
        )
    )
    assert not difference, (
        f"the public API changed:\n{difference}\nIf that is meant: say so under [Unreleased] in "
        "CHANGELOG.md, then write the list anew: python tests/packaging/test_public_api.py"
    )


if __name__ == "__main__":
    _LISTED.write_text(_described())
